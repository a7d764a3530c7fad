// MQTT.js as a device or controller; see foreign.rs for the words on both sides.
const fs = require("node:fs");
const readline = require("node:readline");
const mqtt = require("mqtt");

const [host, port, authority, certificate, key, clientId, willTopic, willText] = process.argv.slice(2);

const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);

const client = mqtt.connect({
  protocol: "mqtts",
  protocolVersion: 4,
  host,
  port: Number(port),
  ca: fs.readFileSync(authority),
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  clientId,
  clean: true,
  keepalive: 30,
  reconnectPeriod: 0,
  will: willTopic ? { topic: willTopic, payload: willText, qos: 1, retain: true } : undefined,
});
client.on("error", (error) => {
  say("error", error.message);
  process.exit(1);
});
client.on("message", (topic, payload, packet) =>
  say("message", topic, packet.qos, packet.retain ? 1 : 0, payload),
);
client.on("connect", (ack) => {
  say("connected", ack.returnCode);
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const [word, topic, retain, text] = line.split(" ");
    if (word === "subscribe") {
      const granted = await client.subscribeAsync(topic, { qos: 1 });
      say("subscribed", ...granted.map((one) => one.qos));
    } else if (word === "publish") {
      await client.publishAsync(topic, text, { qos: 1, retain: retain === "1" });
      say("published");
    }
  });
  lines.on("close", () => client.end());
});
