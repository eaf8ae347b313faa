package io.github.seshatkv.readme;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.seshatkv.client.Client;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.net.ServerSocket;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs the code of the README against a real cluster, and compares what it prints. */
class ReadmeTest {
  private static final Pattern BLOCK = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);
  private static final Pattern PRINTED = Pattern.compile("// => (.*)");
  private static final String ENDPOINT = "127.0.0.1:6379";

  private static Process cluster;
  private static String endpoint;

  @TempDir Path directory;

  @BeforeAll
  static void begin() throws IOException {
    String seshat = System.getenv("SESHAT");
    assumeTrue(seshat != null, "SESHAT names no built seshat");
    int port = freePorts();
    endpoint = "127.0.0.1:" + port;
    cluster =
        new ProcessBuilder(
                seshat, "dev", "--base-port", "" + port, "--internal-base-port", "" + (port + 3))
            .redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.DISCARD)
            .start();
    try (Client client =
        Client.builder().endpoints(endpoint).timeout(Duration.ofMinutes(1)).build()) {
      client.get("is it up?");
    }
  }

  /** The first of six ports in a row that are free. */
  private static int freePorts() throws IOException {
    while (true) {
      int port;
      try (ServerSocket socket = new ServerSocket(0)) {
        port = socket.getLocalPort();
      }
      if (IntStream.range(port, port + 6).allMatch(ReadmeTest::isFree)) {
        return port;
      }
    }
  }

  private static boolean isFree(int port) {
    try (ServerSocket socket = new ServerSocket(port)) {
      return socket.isBound();
    } catch (IOException | IllegalArgumentException taken) {
      return false;
    }
  }

  @AfterAll
  static void end() {
    if (cluster != null) {
      cluster.destroyForcibly();
    }
  }

  @Test
  void itsCodePrintsWhatItSays() throws Exception {
    String readme = Files.readString(Path.of("README.md"));
    List<String> blocks = BLOCK.matcher(readme).results().map(it -> it.group(1)).toList();
    assertTrue(blocks.size() > 5);
    for (int i = 0; i < blocks.size(); i++) {
      String code = blocks.get(i);
      List<String> expected =
          PRINTED.matcher(code).results().map(it -> it.group(1).strip()).toList();
      assertEquals(expected, run("Example" + i, code), code);
    }
  }

  /** Runs a block, and returns the lines that it prints. */
  private List<String> run(String name, String code) throws Exception {
    String given = code.contains("Client client =") ? "other" : "client";
    String source =
        "import io.github.seshatkv.client.*;\nimport java.time.Duration;\n"
            + ("public class " + name + " {\n  public static void run(Client " + given + ") {\n")
            + code.replace(ENDPOINT, endpoint)
            + "  }\n}\n";
    Path file = Files.writeString(directory.resolve(name + ".java"), source);
    String classPath =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    int failed =
        ToolProvider.getSystemJavaCompiler()
            .run(
                null,
                said,
                said,
                "-classpath",
                classPath,
                "-d",
                directory.toString(),
                file.toString());
    assertEquals(0, failed, said + source);
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    PrintStream before = System.out;
    URL[] path = {directory.toUri().toURL()};
    try (URLClassLoader loader = new URLClassLoader(path, getClass().getClassLoader());
        Client client = Client.connect(endpoint)) {
      System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
      loader.loadClass(name).getMethod("run", Client.class).invoke(null, client);
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8).lines().toList();
  }
}
