import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of Kafka's command-line tools one after another in one JVM, each as if it
 * had a process of its own: arguments, standard input, both outputs, exit code, shutdown hooks.
 *
 * One JSON document a line comes in: {"main", "arguments", "input", "limit_ms"}; one a line goes
 * out: {"code", "out", "err"}, where code is "timeout" for a tool that had to be told to stop.
 *
 * Tools end through Kafka's own Exit, which is replaced here. A tool that registers its hooks with
 * the Runtime instead (VerifiableProducer) needs a process of its own.
 */
public final class ToolDriver {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** For what a tool does after its time limit, when its hooks have told it to stop. */
    private static final long STOP_LIMIT_MS = 5_000;

    private final List<Runnable> hooks = new ArrayList<>();
    private Integer code;
    private Thread main;

    /** Unwinds the tool's thread; an Error, so that fewer handlers take it for a failure. */
    private static final class Exited extends Error {
        private static final long serialVersionUID = 1;

        private Exited() {
            super("the tool has ended", null, false, false);
        }
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        BufferedReader requests =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            ObjectNode answer = new ToolDriver().run(JSON.readTree(line));
            answers.write(JSON.writeValueAsBytes(answer));
            answers.write('\n');
            answers.flush();
        }
        // Clients that a tool left open have threads that are no daemons.
        Runtime.getRuntime().halt(0);
    }

    private ObjectNode run(JsonNode request) throws InterruptedException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        PrintStream outPrinter = printer(out);
        PrintStream errPrinter = printer(err);
        System.setOut(outPrinter);
        System.setErr(errPrinter);
        byte[] input = request.get("input").asText().getBytes(StandardCharsets.UTF_8);
        System.setIn(new ByteArrayInputStream(input));
        Exit.setExitProcedure((status, message) -> exit(status));
        Exit.setHaltProcedure((status, message) -> exit(status));
        Exit.setShutdownHookAdder((name, hook) -> add(hook));

        main = new Thread(() -> call(request), "main");
        main.start();
        main.join(request.get("limit_ms").asLong());
        boolean late = main.isAlive();
        System.setOut(outPrinter);
        System.setErr(errPrinter);
        runHooks();
        main.join(STOP_LIMIT_MS);

        ObjectNode answer = JSON.createObjectNode();
        if (late) {
            answer.put("code", "timeout");
        } else {
            answer.put("code", recorded());
        }
        answer.put("out", out.toString(StandardCharsets.UTF_8));
        answer.put("err", err.toString(StandardCharsets.UTF_8));
        return answer;
    }

    private static PrintStream printer(OutputStream target) {
        return new PrintStream(target, true, StandardCharsets.UTF_8);
    }

    private void call(JsonNode request) {
        List<String> words = new ArrayList<>();
        request.get("arguments").forEach(word -> words.add(word.asText()));
        try {
            Class.forName(request.get("main").asText())
                    .getMethod("main", String[].class)
                    .invoke(null, (Object) words.toArray(new String[0]));
            record(0);
        } catch (InvocationTargetException failure) {
            if (!(failure.getCause() instanceof Exited)) {
                uncaught(failure.getCause());
            }
        } catch (ReflectiveOperationException failure) {
            uncaught(failure);
        }
    }

    /** What the JVM does with an exception that main throws. */
    private void uncaught(Throwable failure) {
        System.err.print("Exception in thread \"main\" ");
        failure.printStackTrace();
        record(1);
    }

    /** A tool's exit: the first one counts, and nothing after it is heard of this thread. */
    private void exit(int status) {
        record(status);
        if (Thread.currentThread() == main) {
            System.setOut(printer(OutputStream.nullOutputStream()));
            System.setErr(printer(OutputStream.nullOutputStream()));
        } else {
            main.interrupt();
        }
        throw new Exited();
    }

    private synchronized void record(int status) {
        if (code == null) {
            code = status;
        }
    }

    private synchronized int recorded() {
        return code == null ? 0 : code;
    }

    private synchronized void add(Runnable hook) {
        hooks.add(hook);
    }

    private void runHooks() throws InterruptedException {
        List<Runnable> due;
        synchronized (this) {
            due = new ArrayList<>(hooks);
        }
        for (Runnable hook : due) {
            Thread thread = new Thread(hook, "hook");
            thread.setDaemon(true);
            thread.start();
            thread.join(STOP_LIMIT_MS);
        }
    }
}
