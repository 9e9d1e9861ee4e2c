-- The lanes of a new topic, at position zero.
insert into os_core.lanes (lane, fold_version)
select topic.first_lane + partition, topic.fold_version
from
    (select %b::integer as fold_version, %b::integer as first_lane, %b::integer as partitions) as topic,
    generate_series(0, topic.partitions - 1) as partition
