-- Note that a migration was applied.
insert into os_core.migrations (name, compatible) values (%s, %s)
