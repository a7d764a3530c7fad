"""paho-mqtt as a device or controller; see foreign.rs for the words on both sides."""

import sys

import paho.mqtt.client as mqtt

host, port, authority, certificate, key, client_id, will_topic, will_text = sys.argv[1:]


def say(*words):
    # Messages come on a thread of their own: a line is written at once, or two of them mix.
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=True, protocol=mqtt.MQTTv311
)
client.tls_set(authority, certificate, key)
if will_topic:
    client.will_set(will_topic, will_text, qos=1, retain=True)
client.on_connect = lambda client, data, flags, reason, properties: say("connected", reason.value)
client.on_subscribe = lambda client, data, mid, reasons, properties: say(
    "subscribed", *(reason.value for reason in reasons)
)
client.on_publish = lambda client, data, mid, reason, properties: say("published")
client.on_message = lambda client, data, message: say(
    "message", message.topic, int(message.qos), int(message.retain), message.payload.decode()
)
client.connect(host, int(port), keepalive=30)
client.loop_start()
for line in sys.stdin:
    match line.split():
        case ["subscribe", topic]:
            client.subscribe(topic, 1)
        case ["publish", topic, retain, text]:
            client.publish(topic, text, qos=1, retain=retain == "1")
client.disconnect()
client.loop_stop()
