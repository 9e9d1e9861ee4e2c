-- The folds that wrote the tables.
select distinct fold_version
from os_core.lanes
order by fold_version
