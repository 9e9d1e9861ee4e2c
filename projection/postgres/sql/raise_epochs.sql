-- Repair and registration: tell the lanes' workers that what they hold in memory is no longer true.
update os_core.lanes
set epoch = epoch + 1
where lane = any(%b::integer[])
