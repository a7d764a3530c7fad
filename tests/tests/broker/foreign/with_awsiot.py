"""The AWS IoT Device SDK for Python as a device or controller; see foreign.rs for the words on both sides."""

import sys

from awscrt import mqtt
from awsiot import mqtt_connection_builder

host, port, authority, certificate, key, client_id, will_topic, will_text = sys.argv[1:]


def say(*words):
    # Messages come on a thread of their own: a line is written at once, or two of them mix.
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def on_message(topic, payload, dup, qos, retain, **_):
    say("message", topic, int(qos), int(retain), payload.decode())


will = None
if will_topic:
    will = mqtt.Will(will_topic, mqtt.QoS.AT_LEAST_ONCE, will_text.encode(), True)
connection = mqtt_connection_builder.mtls_from_path(
    endpoint=host,
    port=int(port),
    ca_filepath=authority,
    cert_filepath=certificate,
    pri_key_filepath=key,
    client_id=client_id,
    clean_session=True,
    keep_alive_secs=30,
    will=will,
)
connection.connect().result(30)
say("connected", 0)
for line in sys.stdin:
    match line.split():
        case ["subscribe", topic]:
            future, _ = connection.subscribe(topic, mqtt.QoS.AT_LEAST_ONCE, on_message)
            say("subscribed", int(future.result(30)["qos"]))
        case ["publish", topic, retain, text]:
            future, _ = connection.publish(topic, text, mqtt.QoS.AT_LEAST_ONCE, retain == "1")
            future.result(30)
            say("published")
connection.disconnect().result(30)
