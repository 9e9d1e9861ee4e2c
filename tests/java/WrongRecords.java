import static java.util.Map.entry;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Utils;

/** Records that break a rule each, and what docs/WIRE.md and the contract say becomes of them. */
final class WrongRecords {
    private static final String CONTRACT = "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED";
    private static final String SCOPE = "OS_WORK_ORDER_TENANT_SCOPE_VIOLATION";
    private static final String NOBODY = "_unattributed";
    private static final String OWN = AppendWithoutOurCode.TENANT;
    private static final Map<String, Object> FIELD = Map.of("field_key", "date", "value", "2026-04-01");

    /** A record, and its fate: the tenant it is filed under, the code, and what payload_min says under a name. */
    record Wrong(String name, byte[] key, byte[] value, int partition, String filed, String reason, String detail, String says) {}

    private final AppendWithoutOurCode program;
    private final int partitions;

    WrongRecords(AppendWithoutOurCode program, int partitions) {
        this.program = program;
        this.partitions = partitions;
    }

    /** All of them, to be appended after the work order of the program. */
    List<Wrong> all() throws Exception {
        byte[] right = fieldSet(FIELD, Map.of());
        byte[] marked = right.clone();
        marked[1] = 0x02;
        byte[] stranger = right.clone();
        Arrays.fill(stranger, 2, 10, (byte) 7);
        byte[] branch = fieldSet(null, Map.of());
        branch[branch.length - 1] = 0x7e;
        String other = tenantOfPartition(partitionOf(OWN));
        return List.of(
            new Wrong("in another partition", utf8(OWN), right, (partitionOf(OWN) + 1) % partitions, NOBODY, SCOPE, "field", "tenant_id"),
            new Wrong("without a key", null, right, partitionOf(OWN), NOBODY, SCOPE, "field", "tenant_id"),
            new Wrong("under the key of another tenant", utf8(other), right, partitionOf(OWN), other, SCOPE, "field", "tenant_id"),
            new Wrong("of a blank tenant", utf8(" "), fieldSet(FIELD, Map.of("tenant_id", " ")), partitionOf(" "), NOBODY, CONTRACT,
                "field", "tenant_id"),
            own("with another marker", marked, CONTRACT, "field", null),
            own("of a schema that is not registered", stranger, CONTRACT, "field", "schema"),
            own("without a value", null, CONTRACT, "field", null),
            own("with a body that ends early", Arrays.copyOf(right, right.length - 1), CONTRACT, "field", null),
            own("with a branch that the union does not have", branch, CONTRACT, "field", null),
            own("with too large a value", fieldSet(Map.of("field_key", "date", "value", "x".repeat(20_480)), Map.of()), CONTRACT, "field", null),
            own("with too large a payload", fieldSet(Map.of("field_key", "date", "value", "x".repeat(16_384)), Map.of()), CONTRACT,
                "field", "payload"),
            own("without a payload", fieldSet(null, Map.of()), CONTRACT, "field", "payload"),
            own("with a blank text", fieldSet(Map.of("field_key", "\u2003", "value", 1L), Map.of()), CONTRACT, "field", "field_key"),
            own("of a work order without a name", fieldSet(FIELD, Map.of("work_order_id", "")), CONTRACT, "field", "work_order_id"),
            own("that cancels what is not there", encode("WORK_ORDER_CANCELED", "CANCELED", Map.of(), absent()),
                "OS_WORK_ORDER_CANCEL_INVALID_STATE", "field", "work_order_id"),
            own("of a step that claims a lease that is not there", encode("STEP_STARTED", "EXECUTING", Map.of("attempt_index", 0L),
                absent(entry("step_id", "s"), entry("lease_owner_id", "jvm"), entry("lease_token_hash", "cafe"))),
                "LEASE_NOT_FOUND", "field", "lease_token_hash"),
            own("that repeats a key with another value", fieldSet(FIELD, Map.of("idempotency_key", "java-2")),
                "OS_WORK_ORDER_IDEMPOTENCY_REPLAY", "request_differs", "true"));
    }

    private Wrong own(String name, byte[] value, String reason, String detail, String says) {
        return new Wrong(name, utf8(OWN), value, partitionOf(OWN), OWN, reason, detail, says);
    }

    private byte[] fieldSet(Map<String, Object> payload, Map<String, Object> more) throws Exception {
        return encode("FIELD_SET", "CLARIFY", payload, more);
    }

    private byte[] encode(String type, String status, Map<String, Object> payload, Map<String, Object> more) throws Exception {
        var fields = new HashMap<String, Object>(Map.of("idempotency_key", "wrong"));
        fields.putAll(more);
        return program.encode(program.event(9, type, status, payload, fields));
    }

    @SafeVarargs
    private Map<String, Object> absent(Map.Entry<String, Object>... more) {
        var fields = new HashMap<String, Object>(Map.ofEntries(more));
        fields.put("work_order_id", "order-2");
        fields.put("correlation_id", program.correlationId("2"));
        return fields;
    }

    private int partitionOf(String tenant) {
        return (Utils.murmur2(utf8(tenant)) & 0x7fffffff) % partitions;
    }

    private String tenantOfPartition(int partition) {
        int number = 0;
        while (partitionOf("other-" + number) != partition) {
            number++;
        }
        return "other-" + number;
    }

    private static byte[] utf8(String text) {
        return AppendWithoutOurCode.utf8(text);
    }
}
