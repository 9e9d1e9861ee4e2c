-- Lanes of a new topic, at position zero.
insert into os_core.lanes (fold_version, lane)
select %b::integer, lane
from unnest(%b::integer[]) as lane
