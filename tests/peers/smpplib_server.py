"""An SMSC that reads and writes with smpplib's own codec. Prints its port as a line of JSON, then one
line for each submit_sm that it takes, and confirms each with a receipt.

    smpplib_server.py
"""

import json
import socket
import struct

import smpplib.consts
import smpplib.smpp


class State:
    """What smpplib's PDUs ask of a client: sequence numbers."""

    def __init__(self):
        self.sequence = 0

    def next_sequence(self):
        self.sequence += 1
        return self.sequence


def say(value):
    print(json.dumps(value), flush=True)


def text(octets):
    return octets.decode("latin-1") if isinstance(octets, bytes) else octets


def read(stream):
    head = stream.read(4)
    if len(head) < 4:
        return None
    return head + stream.read(struct.unpack(">L", head)[0] - 4)


def serve(connection):
    state, taken = State(), 0
    stream = connection.makefile("rb")

    def answer(pdu, **fields):
        resp = smpplib.smpp.make_pdu(pdu.command + "_resp", client=state, status=0, **fields)
        resp.sequence = pdu.sequence
        connection.sendall(resp.generate())

    while True:
        frame = read(stream)
        if frame is None:
            return
        pdu = smpplib.smpp.parse_pdu(frame, client=state, allow_unknown_opt_params=True)
        if pdu.command.startswith("bind_") and not pdu.command.endswith("_resp"):
            say({"bind": pdu.command, "system_id": text(pdu.system_id), "password": text(pdu.password)})
            answer(pdu, system_id="smpplib")
        elif pdu.command == "enquire_link":
            answer(pdu)
        elif pdu.command == "unbind":
            say({"unbind": True})
            answer(pdu)
            return
        elif pdu.command == "submit_sm":
            taken += 1
            message_id = "py-%d" % taken
            say({
                "submit": message_id,
                "short_message": pdu.short_message.hex() if pdu.short_message else "",
                "source_addr_ton": pdu.source_addr_ton,
                "source_addr": text(pdu.source_addr),
                "destination_addr": text(pdu.destination_addr),
                "esm_class": pdu.esm_class,
                "data_coding": pdu.data_coding,
                "registered_delivery": pdu.registered_delivery,
            })
            answer(pdu, message_id=message_id)
            receipt = smpplib.smpp.make_pdu(
                "deliver_sm", client=state, source_addr_ton=1, source_addr_npi=1,
                source_addr=text(pdu.destination_addr), dest_addr_ton=pdu.source_addr_ton,
                dest_addr_npi=pdu.source_addr_npi, destination_addr=text(pdu.source_addr), esm_class=4,
                short_message=(
                    "id:%s sub:001 dlvrd:001 submit date:2611220900 done date:2611220901 "
                    "stat:DELIVRD err:000 text:" % message_id).encode())
            connection.sendall(receipt.generate())
        elif pdu.command == "deliver_sm_resp":
            say({"deliver_sm_resp": pdu.status})


listener = socket.create_server(("127.0.0.1", 0))
say({"port": listener.getsockname()[1]})
while True:
    connection, _ = listener.accept()
    serve(connection)
    connection.close()
