-- Lanes have got past their stops.
update os_core.lane_stops
set cleared = now()
where lane = any(%b::integer[]) and cleared is null
