import java.io.ByteArrayOutputStream;
import java.io.File;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Appends a small work order as docs/WIRE.md says, with kafka-clients and Avro alone, then a dozen wrong records, and looks for
 * what became of each in the audit topic, where that page says it is.
 *
 * Arguments: servers, ledger topic, ledger schema, audit topic, audit schema, partitions, first lane.
 */
public final class AppendWithoutOurCode {
    static final String TENANT = "java-tenant";
    private static final long START = 1_700_000_000_000_000_000L;
    private static final String LARGEST = "340282366920938463463374607431768211455";

    private final Schema schema;

    private AppendWithoutOurCode(Schema schema) {
        this.schema = schema;
    }

    public static void main(String[] arguments) throws Exception {
        var program = new AppendWithoutOurCode(new Schema.Parser().parse(new File(arguments[2])));
        int partitions = Integer.parseInt(arguments[5]);
        long firstLane = Long.parseLong(arguments[6]);
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        var fates = new ArrayList<AuditTopic.Fate>();
        try (var producer = new KafkaProducer<byte[], byte[]>(settings)) {
            for (GenericRecord event : program.events()) {
                byte[] value = program.encode(event);
                RecordMetadata at = producer.send(new ProducerRecord<>(arguments[1], utf8(TENANT), value)).get();
                System.out.println(at.partition() + " " + at.offset() + " " + HexFormat.of().formatHex(value));
            }
            for (WrongRecords.Wrong wrong : new WrongRecords(program, partitions).all()) {
                var record = new ProducerRecord<>(arguments[1], wrong.partition(), wrong.key(), wrong.value());
                fates.add(new AuditTopic.Fate(wrong, eventId(firstLane, producer.send(record).get())));
            }
        }
        var audit = new AuditTopic(arguments[0], arguments[3], new Schema.Parser().parse(new File(arguments[4])), partitions);
        for (String line : audit.find(fates)) {
            System.out.println(line);
        }
    }

    private static long eventId(long firstLane, RecordMetadata at) {
        return (firstLane + at.partition()) << 42 | (at.offset() + 1);
    }

    private List<GenericRecord> events() {
        var created = Map.of("requester_user_id", "duke", "fields", Map.of("city", "Jakarta", "nights", 3L, "late", true),
            "missing_fields", List.of("date"));
        return List.of(
            event(1, "WORK_ORDER_CREATED", "DRAFT", created, Map.of()),
            event(2, "FIELD_SET", "CLARIFY", Map.of("field_key", "date", "value", "2026-03-01"), Map.of()),
            event(3, "STATUS_CHANGED", "CONFIRM", Map.of(), Map.of()),
            event(4, "STEP_STARTED", "CONFIRM", Map.of("attempt_index", 0L), Map.of("step_id", "reserve")),
            event(5, "LEASE_ACQUIRED", "CONFIRM", Map.of("ttl_ms", 60_000L),
                Map.of("lease_owner_id", "jvm", "lease_token_hash", "cafe")),
            event(6, "WORK_ORDER_CANCELED", "CANCELED", Map.of(), Map.of()));
    }

    /** An event of a work order; a payload of null is the null of the union, and `more` are other fields than usual. */
    GenericRecord event(int number, String type, String status, Map<String, Object> payload, Map<String, Object> more) {
        var event = new GenericData.Record(schema);
        event.put("schema_version", 1);
        event.put("created_at", START + number);
        event.put("tenant_id", TENANT);
        event.put("work_order_id", "order-1");
        event.put("correlation_id", correlationId(LARGEST));
        event.put("turn_id", (long) number);
        event.put("event_type", new GenericData.EnumSymbol(field("event_type"), type));
        event.put("work_order_status", new GenericData.EnumSymbol(field("work_order_status"), status));
        event.put("reason_code", 7L);
        event.put("idempotency_key", "java-" + number);
        more.forEach(event::put);
        if (payload != null) {
            Schema branch = field("payload").getTypes().stream().filter(each -> each.getName().equals(type)).findFirst().orElseThrow();
            var record = new GenericData.Record(branch);
            payload.forEach(record::put);
            event.put("payload", record);
        }
        return event;
    }

    /** A correlation_id of these digits. */
    GenericData.Fixed correlationId(String digits) {
        return new GenericData.Fixed(field("correlation_id"), u128(digits));
    }

    byte[] encode(GenericRecord event) throws Exception {
        var bytes = new ByteArrayOutputStream();
        bytes.write(0xC3);
        bytes.write(0x01);
        bytes.write(SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema));
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
        new GenericDatumWriter<GenericRecord>(schema).write(event, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private Schema field(String name) {
        return schema.getField(name).schema();
    }

    private static byte[] u128(String digits) {
        byte[] shortest = new BigInteger(digits).toByteArray();
        byte[] fixed = new byte[16];
        int length = Math.min(16, shortest.length);
        System.arraycopy(shortest, shortest.length - length, fixed, 16 - length, length);
        return fixed;
    }
}
