// An ESME by node's smpp: binds in every mode, submits each kind of message, asks for, replaces and
// cancels some, waits for the receipts and unbinds. Prints one JSON object of what it heard.
//
//     node node_client.js PORT SYSTEM_ID PASSWORD RECEIPTS

const smpp = require('smpp');

const [port, system_id, password, receipts] = process.argv.slice(2);
const PATIENCE = 40000;
const LONG = Array.from({length: 300}, (_, n) => String.fromCharCode(97 + (n % 26))).join('');
const heard = {binds: {}, answers: {}, delivered: [], enquiries: 0};

const connect = () => new Promise((resolve, reject) => {
    const session = smpp.connect({host: '127.0.0.1', port: Number(port)}, () => resolve(session));
    session.on('error', reject);
    session.on('enquire_link', (pdu) => { heard.enquiries += 1; session.send(pdu.response()); });
});

const ask = (session, command, fields) => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no answer to ${command}`)), PATIENCE).unref();
    session[command](fields, resolve);
});

const until = async (done) => {
    const end = Date.now() + PATIENCE;
    while (!done() && Date.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
};

const note = (what, pdu) => {
    const {command, command_status, message_id, message_state, final_date, no_unsuccess} = pdu;
    heard.answers[what] = {
        command, command_status, message_id, message_state,
        final: final_date instanceof Date && !isNaN(final_date), no_unsuccess,
    };
    return pdu;
};

async function main() {
    const wrong = await connect();
    heard.refused = (await ask(wrong, 'bind_transceiver', {system_id, password: 'wrong'})).command_status;
    wrong.destroy();
    for (const mode of ['transmitter', 'receiver']) {
        const session = await connect();
        heard.binds[mode] = (await ask(session, `bind_${mode}`, {system_id, password})).command_status;
        await ask(session, 'unbind', {});
        session.close();
    }
    const session = await connect();
    heard.binds.transceiver = (await ask(session, 'bind_transceiver', {system_id, password})).command_status;
    session.on('deliver_sm', (pdu) => {
        heard.delivered.push({
            esm_class: pdu.esm_class,
            source_addr: pdu.source_addr,
            destination_addr: pdu.destination_addr,
            short_message: (pdu.short_message || {}).message,
            receipted_message_id: pdu.receipted_message_id,
            message_state: pdu.message_state,
        });
        session.send(pdu.response());
    });
    const base = {
        source_addr_ton: 5, source_addr_npi: 0, source_addr: 'Acme',
        dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900123',
        registered_delivery: 1,
    };
    const submit = async (what, fields) => note(what, await ask(session, 'submit_sm', {...base, ...fields}));
    await submit('gsm', {short_message: '5 € {é} @', data_coding: 0});
    await submit('ucs2', {short_message: 'Привет 👋', data_coding: 8});
    await Promise.all([1, 2].map((number) => submit(`udh${number}`, {
        esm_class: 0x40,
        short_message: {
            udh: Buffer.from([5, 0, 3, 9, 2, number]),
            message: LONG.slice((number - 1) * 153, number * 153),
        },
    })));
    await Promise.all([1, 2].map((number) => submit(`sar${number}`, {
        short_message: LONG.slice((number - 1) * 153, number * 153),
        sar_msg_ref_num: 77, sar_total_segments: 2, sar_segment_seqnum: number,
    })));
    await submit('payload', {short_message: '', message_payload: LONG});
    await submit('quiet', {short_message: 'quiet', registered_delivery: 0});
    note('data', await ask(session, 'data_sm', {
        source_addr_ton: 5, source_addr_npi: 0, source_addr: 'Acme',
        dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900123',
        registered_delivery: 1, message_payload: 'by data',
    }));
    const timed = {...base, short_message: 'tomorrow', schedule_delivery_time: '000001000000000R'};
    const later = await submit('later', timed);
    const of = {
        message_id: later.message_id, source_addr_ton: 5, source_addr_npi: 0, source_addr: 'Acme',
        dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900123',
    };
    note('query', await ask(session, 'query_sm', of));
    note('replace', await ask(session, 'replace_sm', {...of, short_message: 'another text', registered_delivery: 1}));
    note('cancel', await ask(session, 'cancel_sm', of));
    note('cancel_again', await ask(session, 'cancel_sm', of));
    note('query_canceled', await ask(session, 'query_sm', of));
    note('query_unknown', await ask(session, 'query_sm', {...of, message_id: 'nobody'}));
    note('multi', await ask(session, 'submit_multi', {
        ...base,
        dest_address: [
            {dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900124'},
            {dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900125'},
        ],
        short_message: 'to both', registered_delivery: 0,
    }));
    await until(() => heard.delivered.length >= Number(receipts));
    heard.enquire_link = (await ask(session, 'enquire_link', {})).command_status;
    heard.unbind = (await ask(session, 'unbind', {})).command_status;
    session.close();
}

main().then(() => {
    console.log(JSON.stringify(heard));
    process.exit(0);
}, (error) => {
    console.error(error, JSON.stringify(heard));
    process.exit(1);
});
