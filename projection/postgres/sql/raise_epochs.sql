-- Repair: tell the lanes' workers that rows changed under the states they hold in memory.
update os_core.lanes
set epoch = epoch + 1
where lane = any(%b::integer[])
