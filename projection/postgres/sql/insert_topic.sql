-- A topic of the ledger, with the identity that tells it from another of the same name.
insert into os_core.work_order_topics
    (first_lane, topic, topic_id, cluster_id, partitions, audit_topic, audit_topic_id)
values (%b, %b, %b, %b, %b, %b, %b)
