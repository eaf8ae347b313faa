package io.github.seshatkv.conformance;

import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.github.seshatkv.proto.conformance.v1.Echoed;
import java.io.IOException;

/** Parses a message by the generated classes, and writes it in both formats. */
final class Echo {
  private static final String SCHEMA = "seshat.";
  private static final String PACKAGE = "io.github.seshatkv.proto.";

  private Echo() {}

  static Echoed echo(io.github.seshatkv.proto.conformance.v1.Echo asked)
      throws ReflectiveOperationException, IOException {
    String type = PACKAGE + asked.getType().substring(SCHEMA.length());
    Message.Builder builder =
        (Message.Builder) Class.forName(type).getMethod("newBuilder").invoke(null);
    if (asked.hasBinary()) {
      builder.mergeFrom(asked.getBinary());
    } else {
      JsonFormat.parser().merge(asked.getJson(), builder);
    }
    Message message = builder.build();
    return Echoed.newBuilder()
        .setBinary(message.toByteString())
        .setJson(JsonFormat.printer().print(message))
        .build();
  }
}
