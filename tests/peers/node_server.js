// An SMSC by node's smpp. Prints its port as a line of JSON, then one line for each submit_sm that it
// takes; a line on its standard input (JSON of deliver_sm fields) is sent to the ESME.
//
//     node node_server.js

const readline = require('readline');
const smpp = require('smpp');

const say = (value) => console.log(JSON.stringify(value));
let bound = null;
let taken = 0;

const server = smpp.createServer((session) => {
    session.on('error', (error) => say({error: String(error)}));
    for (const mode of ['bind_transmitter', 'bind_receiver', 'bind_transceiver']) {
        session.on(mode, (pdu) => {
            say({bind: mode, system_id: pdu.system_id, password: pdu.password, interface_version: pdu.interface_version});
            session.send(pdu.response({system_id: 'node', sc_interface_version: 0x34}));
            bound = session;
        });
    }
    session.on('enquire_link', (pdu) => session.send(pdu.response()));
    session.on('unbind', (pdu) => { say({unbind: true}); session.send(pdu.response()); session.close(); });
    session.on('deliver_sm_resp', (pdu) => say({deliver_sm_resp: pdu.command_status}));
    session.on('submit_sm', (pdu) => {
        taken += 1;
        const message_id = `node-${taken}`;
        const {message, udh} = pdu.short_message;
        say({
            submit: message_id, text: message, udh: udh && udh.map ? udh.map((e) => Buffer.from(e).toString('hex')) : null,
            source_addr_ton: pdu.source_addr_ton, source_addr: pdu.source_addr, destination_addr: pdu.destination_addr,
            esm_class: pdu.esm_class, data_coding: pdu.data_coding, registered_delivery: pdu.registered_delivery,
            validity_period: pdu.validity_period && pdu.validity_period.toString(),
        });
        session.send(pdu.response({message_id}));
        const stamp = '2611220900';
        session.deliver_sm({
            source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr,
            dest_addr_ton: pdu.source_addr_ton, dest_addr_npi: pdu.source_addr_npi, destination_addr: pdu.source_addr,
            esm_class: 4,
            short_message: `id:${message_id} sub:001 dlvrd:001 submit date:${stamp} done date:${stamp} stat:DELIVRD err:000 text:`,
            receipted_message_id: message_id, message_state: 2,
        });
    });
});
server.listen(0, '127.0.0.1', () => say({port: server.address().port}));
readline.createInterface({input: process.stdin}).on('line', (line) => bound.deliver_sm(JSON.parse(line)))
    .on('close', () => process.exit(0));
