// Writes segments.tsv: how many segments and units Twilio's calculator counts. Each line is a text given
// as a piece, how often it stands, and an end; then encoding, segments, and septets or UTF-16 units.
//
//     npm install sms-segments-calculator@1.3.0
//     node make_segments.js > segments.tsv
const { SegmentedMessage } = require('sms-segments-calculator');

const pieces = ['a', 'é', '€', '{a', 'Ω!', 'ж', 'aж', '漢', '😀', 'a😀', 'ж😀', '“q”', 'ş', 'e\u0301', '👍🏽', '👩\u200d👧', '🇫🇷', 'क्षि '];
const times = [1, 10, 33, 34, 35, 66, 67, 68, 69, 70, 71, 76, 77, 80, 81, 134, 135, 152, 153, 154, 159, 160, 161, 306, 307, 460];
const ends = ['', '€', '😀'];
for (const piece of pieces)
  for (const time of times)
    for (const end of ends) {
      const message = new SegmentedMessage(piece.repeat(time) + end);
      const gsm = message.encodingName === 'GSM-7';
      const units = message.messageSize / (gsm ? 7 : 16);
      console.log([piece, time, end, gsm ? 'gsm7' : 'ucs2', message.segmentsCount, units].join('\t'));
    }
