"""The list of what is in an image, as CycloneDX JSON: `python sbom.py SITE_PACKAGES DPKG_STATUS`.

It runs while the image is built, in the stage that is thrown away, and knows nothing of Core Tables but its name.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def bill_of_materials(site_packages: Path, dpkg_status: Path) -> str:
    """The Python packages of a folder and the packages that Debian's `status` file lists as installed, as CycloneDX JSON 1.6."""
    urls = sorted({*_python_packages(site_packages), *_debian_packages(dpkg_status)})
    (version,) = (url.version for url in urls if url.name == "core-tables")
    bom = Bom()
    image = Component(name="core-tables", version=version, type=ComponentType.CONTAINER)
    bom.metadata.component = image
    bom.components.update(
        Component(name=url.name, version=url.version, purl=url, bom_ref=str(url), type=ComponentType.LIBRARY)
        for url in urls
    )
    bom.register_dependency(image, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _python_packages(site_packages: Path) -> Iterator[PackageURL]:
    for each in distributions(path=[str(site_packages)]):
        yield PackageURL("pypi", None, each.name.lower().replace("_", "-"), each.version)


def _debian_packages(status: Path) -> Iterator[PackageURL]:
    for paragraph in status.read_text("utf-8").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            architecture = {"arch": fields["Architecture"]}
            yield PackageURL("deb", "debian", fields["Package"], fields["Version"], architecture)


if __name__ == "__main__":
    _, site_packages, dpkg_status = sys.argv
    print(bill_of_materials(Path(site_packages), Path(dpkg_status)))
