"""Shows how named tuples and structs are made: their fields as a signature, as the site shows it for dataclasses."""

from typing import Any, Final

from griffe import Attribute, Class, Extension, Function, Module, Parameter, ParameterKind, Parameters

VALUES: Final = {"typing.NamedTuple", "msgspec.Struct"}


class ValueSignatures(Extension):
    """Gives each class of values, once its package is loaded, the `__init__` that its fields stand for."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Visit every class of the package."""
        _visit(pkg)


def _visit(scope: Module | Class) -> None:
    if isinstance(scope, Class) and "__init__" not in scope.members and _is_value(scope):
        scope.set_member("__init__", _init(scope))
    for member in list(scope.members.values()):
        if not member.is_alias and isinstance(member, Module | Class):
            _visit(member)


def _is_value(found: Class) -> bool:
    paths = {getattr(base, "canonical_path", str(base)) for base in found.bases}
    return bool(paths & VALUES) or any(_is_value(base) for base in _ours(found))


def _ours(found: Class) -> list[Class]:
    return [base.final_target if base.is_alias else base for base in found.resolved_bases if base.is_class]


def _init(value: Class) -> Function:
    fields: dict[str, Parameter] = {}
    for owner in (*reversed(_ours(value)), value):
        keywords = "True" in str(owner.keywords.get("kw_only"))
        kind = ParameterKind.keyword_only if keywords else ParameterKind.positional_or_keyword
        for field in owner.members.values():
            if isinstance(field, Attribute) and field.annotation is not None and "instance-attribute" in field.labels:
                fields[field.name] = Parameter(field.name, annotation=field.annotation, kind=kind, default=field.value)
    first = Parameter("self", kind=ParameterKind.positional_or_keyword)
    return Function("__init__", parent=value, parameters=Parameters(first, *fields.values()), returns="None")
