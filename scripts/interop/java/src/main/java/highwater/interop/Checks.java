package highwater.interop;

import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;

/**
 * Runs checks and reports each as one JSON line on standard output, as the Python clients do.
 *
 * <p>A check throws on failure and may return a note, or null.
 */
final class Checks {
    private Checks() {}

    static void run(String name, Map<String, Callable<String>> checks) {
        long started = System.nanoTime();
        String status = "ok";
        String note = null;
        try {
            Callable<String> check = checks.get(name);
            expect(check != null, "this client has no such check");
            note = check.call();
        } catch (Exception | AssertionError failure) {
            status = "fail";
            note = describe(unwrap(failure));
        }
        long ms = (System.nanoTime() - started) / 1_000_000;
        System.out.printf(
                "{\"client\": \"java\", \"check\": %s, \"status\": \"%s\", ", json(name), status);
        System.out.printf("\"ms\": %d, \"note\": %s}%n", ms, json(note));
        System.out.flush();
    }

    static void expect(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    static void equal(Object actual, Object expected, String what) {
        expect(Objects.equals(actual, expected),
                what + ": got " + brief(actual) + ", expected " + brief(expected));
    }

    /** Expects `action` to fail with that Kafka error, directly or as the cause of a future's. */
    static void fails(Class<? extends Exception> expected, String what, Callable<?> action) {
        try {
            action.call();
        } catch (Exception raised) {
            Throwable cause = unwrap(raised);
            expect(expected.isInstance(cause),
                    what + ": got " + cause + ", expected " + expected.getSimpleName());
            return;
        }
        throw new AssertionError(what + ": no error, expected " + expected.getSimpleName());
    }

    private static Throwable unwrap(Throwable raised) {
        boolean wrapped = raised instanceof ExecutionException && raised.getCause() != null;
        return wrapped ? raised.getCause() : raised;
    }

    private static String describe(Throwable failure) {
        String text = failure.getClass().getSimpleName() + ": " + failure.getMessage();
        for (StackTraceElement frame : failure.getStackTrace()) {
            if (frame.getClassName().matches(".*\\.(Data|Admin|Group)Checks")) {
                return text + " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
            }
        }
        return text;
    }

    private static String brief(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 160
                ? text
                : text.substring(0, 120) + "... (" + text.length() + " characters)";
    }

    private static String json(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < 0x20 || c > 0x7e) {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }
}
