"""An ESME by smpplib: binds in every mode, submits each kind of message, asks for one, waits for the
receipts and unbinds. Prints one JSON object of what it heard.

    smpplib_client.py HOST PORT SYSTEM_ID PASSWORD RECEIPTS
"""

import json
import socket
import sys
import time

import smpplib.client
import smpplib.consts
import smpplib.exceptions
import smpplib.gsm
import smpplib.smpp

HOST, PORT, SYSTEM_ID, PASSWORD = sys.argv[1:5]
RECEIPTS = int(sys.argv[5])
PATIENCE = 40
LONG = "".join(chr(ord("a") + n % 26) for n in range(300))

heard = {"binds": {}, "refused": None, "answers": {}, "delivered": [], "queries": [], "commands": []}


class Client(smpplib.client.Client):
    def read_pdu(self):
        pdu = super().read_pdu()
        heard["commands"].append(pdu.command)
        return pdu


def text(octets):
    if octets is None:
        return ""
    return octets.decode("latin-1") if isinstance(octets, bytes) else octets


def client():
    one = Client(HOST, PORT, timeout=1, allow_unknown_opt_params=True)
    one.connect()
    return one


wrong = client()
try:
    wrong.bind_transceiver(system_id=SYSTEM_ID, password="wrong")
except smpplib.exceptions.PDUError as error:
    heard["refused"] = error.args[1]
wrong.disconnect()

for mode in ("transmitter", "receiver"):
    one = client()
    answer = getattr(one, "bind_" + mode)(system_id=SYSTEM_ID, password=PASSWORD)
    heard["binds"][mode] = answer.status
    one.unbind()
    one.disconnect()

esme = client()
heard["binds"]["transceiver"] = esme.bind_transceiver(system_id=SYSTEM_ID, password=PASSWORD).status
sent = {}


def submit(what, **fields):
    defaults = {
        "source_addr_ton": smpplib.consts.SMPP_TON_ALNUM,
        "source_addr_npi": smpplib.consts.SMPP_NPI_UNK,
        "source_addr": "Acme",
        "dest_addr_ton": smpplib.consts.SMPP_TON_INTL,
        "dest_addr_npi": smpplib.consts.SMPP_NPI_ISDN,
        "destination_addr": "447700900123",
        "registered_delivery": True,
    }
    defaults.update(fields)
    pdu = esme.send_message(**defaults)
    sent[pdu.sequence] = what


def answered(pdu):
    heard["answers"][sent[pdu.sequence]] = {"status": pdu.status, "message_id": text(pdu.message_id)}


def delivered(pdu):
    heard["delivered"].append({
        "esm_class": pdu.esm_class,
        "source_addr": text(pdu.source_addr),
        "destination_addr": text(pdu.destination_addr),
        "short_message": text(pdu.short_message),
        "receipted_message_id": text(getattr(pdu, "receipted_message_id", None)),
        "message_state": getattr(pdu, "message_state", None),
    })


def queried(pdu):
    heard["queries"].append({
        "status": pdu.status,
        "message_id": text(pdu.message_id),
        "message_state": pdu.message_state,
    })


esme.set_message_sent_handler(answered)
esme.set_message_received_handler(delivered)
esme.set_query_resp_handler(queried)
esme.set_error_pdu_handler(lambda pdu: None)


def listen(until):
    end = time.monotonic() + PATIENCE
    while not until() and time.monotonic() < end:
        try:
            esme.read_once(auto_send_enquire_link=False)
        except socket.timeout:
            pass


[gsm], coding, esm = smpplib.gsm.make_parts("5 \u20ac {\u00e9} @")
submit("gsm", data_coding=coding, esm_class=esm, short_message=gsm)
[ucs2], coding, esm = smpplib.gsm.make_parts("\u041f\u0440\u0438\u0432\u0435\u0442 \U0001f44b")
submit("ucs2", data_coding=coding, esm_class=esm, short_message=ucs2)
parts, coding, esm = smpplib.gsm.make_parts(LONG)
for number, part in enumerate(parts, 1):
    submit("udh%d" % number, data_coding=coding, esm_class=esm, short_message=part)
parts, coding, esm = smpplib.gsm.make_parts(LONG, use_udhi=False)
for number, part in enumerate(parts, 1):
    submit("sar%d" % number, data_coding=coding, esm_class=esm, short_message=part,
           sar_msg_ref_num=77, sar_total_segments=len(parts), sar_segment_seqnum=number)
submit("payload", data_coding=0, short_message=b"", message_payload=LONG.encode())
submit("reference", data_coding=0, short_message=b"hello", user_message_reference=4711)
submit("no_receipt", data_coding=0, short_message=b"quiet", registered_delivery=False)

listen(lambda: len(heard["answers"]) == len(sent))
esme.query_message(
    message_id=heard["answers"]["gsm"]["message_id"], source_addr_ton=5, source_addr_npi=0, source_addr="Acme")
listen(lambda: heard["queries"] or "query_sm_resp" in heard["commands"])
listen(lambda: len(heard["delivered"]) >= RECEIPTS)
esme.send_pdu(smpplib.smpp.make_pdu("enquire_link", client=esme))
listen(lambda: "enquire_link_resp" in heard["commands"])
unbound = esme.unbind()
while unbound.command != "unbind_resp":
    unbound = esme.read_pdu()
heard["unbind"] = unbound.status
esme.disconnect()
print(json.dumps(heard))
