-- After a rebuild of everything: which fold wrote the tables. The new epoch makes workers look, and say so if it is not theirs.
update os_core.lanes
set fold_version = %b, epoch = epoch + 1
where fold_version <> %b
