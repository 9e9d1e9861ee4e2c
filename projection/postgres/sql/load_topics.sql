-- The topics of the ledger, oldest first.
select first_lane, topic, topic_id, cluster_id, partitions, audit_topic, audit_topic_id
from os_core.work_order_topics
order by first_lane
