-- After a rebuild of everything: which fold wrote the tables. The new revision makes workers look, and say so if it is not theirs.
update os_core.lanes
set fold_version = %b, revision = revision + 1
where fold_version <> %b
