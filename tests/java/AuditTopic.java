import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.stream.IntStream;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The audit topic, read as docs/WIRE.md says. */
final class AuditTopic {
    private static final Duration DEADLINE = Duration.ofSeconds(60);

    /** A wrong record, and the id that follows from its position. */
    record Fate(WrongRecords.Wrong record, long eventId) {}

    private final String topic;
    private final Schema schema;
    private final List<TopicPartition> partitions;
    private final Properties settings = new Properties();

    AuditTopic(String servers, String topic, Schema schema, int partitions) {
        this.topic = topic;
        this.schema = schema;
        this.partitions = IntStream.range(0, partitions).mapToObj(at -> new TopicPartition(topic, at)).toList();
        settings.put("bootstrap.servers", servers);
        settings.put("isolation.level", "read_committed");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
    }

    /** Wait for the audit event of each record; a line for each that was found where it should be, or an error. */
    List<String> find(List<Fate> fates) throws Exception {
        var events = new HashMap<Long, ConsumerRecord<byte[], byte[]>>();
        long end = System.nanoTime() + DEADLINE.toNanos();
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (!fates.stream().allMatch(fate -> events.containsKey(fate.eventId()))) {
                if (System.nanoTime() > end) {
                    throw new IllegalStateException("no audit event of some of " + fates + " in " + DEADLINE);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    events.put((Long) decode(record.value()).get("event_id"), record);
                }
            }
        }
        var lines = new ArrayList<String>();
        for (Fate fate : fates) {
            lines.add(compare(fate, events.get(fate.eventId())));
        }
        return lines;
    }

    private String compare(Fate fate, ConsumerRecord<byte[], byte[]> found) throws Exception {
        var wrong = fate.record();
        GenericRecord event = decode(found.value());
        var expected = List.of(wrong.partition(), wrong.filed(), wrong.filed(), wrong.reason(), String.valueOf(wrong.says()));
        var actual = List.of(found.partition(), new String(found.key(), StandardCharsets.UTF_8), event.get("tenant_id").toString(),
            String.valueOf(event.get("outcome_reason")), String.valueOf(detail(event, wrong.detail())));
        if (!expected.equals(actual)) {
            throw new IllegalStateException("the record " + wrong.name() + ": " + actual + " instead of " + expected);
        }
        return String.join("\t", "wrong", wrong.filed(), String.valueOf(fate.eventId()), wrong.reason(), wrong.name());
    }

    private static Object detail(GenericRecord event, String name) {
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) event.get("payload_min")).entrySet()) {
            if (Objects.toString(entry.getKey()).equals(name)) {
                return entry.getValue();
            }
        }
        return null;
    }

    private GenericRecord decode(byte[] value) throws Exception {
        byte[] fingerprint = SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema);
        if (value[0] != (byte) 0xC3 || value[1] != 1 || !Arrays.equals(value, 2, 10, fingerprint, 0, 8)) {
            throw new IllegalStateException("not an audit event of this schema in " + topic);
        }
        var body = DecoderFactory.get().binaryDecoder(new ByteArrayInputStream(value, 10, value.length - 10), null);
        return new GenericDatumReader<GenericRecord>(schema).read(null, body);
    }
}
