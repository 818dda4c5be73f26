package highwater.interop;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Callable;

/** Runs the named checks against a broker: --bootstrap HOST:PORT --prefix P --checks a,b,c. */
final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        for (String required : new String[] {"--bootstrap", "--prefix", "--checks"}) {
            if (!options.containsKey(required)) {
                System.err.println("missing " + required);
                System.exit(2);
            }
        }
        try (Broker broker = new Broker(options.get("--bootstrap"), options.get("--prefix"))) {
            Map<String, Callable<String>> checks = new HashMap<>();
            new DataChecks(broker).addTo(checks);
            new AdminChecks(broker).addTo(checks);
            new GroupChecks(broker).addTo(checks);
            for (String name : options.get("--checks").split(",")) {
                Checks.run(name, checks);
            }
            broker.deleteOwnTopics();
        }
    }
}
