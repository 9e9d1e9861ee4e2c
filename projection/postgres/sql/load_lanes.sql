-- The positions of lanes.
select row.lane, row.applied, row.audited, row.epoch, row.fold_version
from json_to_recordset(%b::json) as asked (/* record LaneName */ lane bigint /* end */)
inner join os_core.lanes as row using (lane)
order by row.lane
