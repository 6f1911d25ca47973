//! The words that handsets send, in their languages, and a text in the form in which words compare.
//! Knows no numbers, no replies and no wishes.

use crate::config::{Language, Replies};

/// What a built-in word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    OptOut,
    OptIn,
    Help,
}

/// Words without accents and punctuation, in lower case, single spaces.
pub struct Vocabulary {
    /// None: understood everywhere, whatever languages are configured.
    pub language: Option<Language>,
    pub opt_out: &'static [&'static str],
    pub opt_in: &'static [&'static str],
    pub help: &'static [&'static str],
}

#[rustfmt::skip]
pub const VOCABULARIES: &[Vocabulary] = &[
    Vocabulary {
        language: None,
        // CTIA, carriers and the large platforms; 47 CFR 64.1200(a)(10) names stop, quit, end, revoke, opt out,
        // cancel and unsubscribe.
        opt_out: &[
            "stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke",
            "optout", "opt out", "remove", "td", "arret", "unsub",
        ],
        opt_in: &["start", "unstop", "yes", "optin", "opt in", "subscribe", "resume"],
        help: &["help", "info", "aide"],
    },
    Vocabulary {
        language: Some(Language::En),
        opt_out: &[
            "stop it", "stop now", "stop messages", "stop messaging", "stop messaging me",
            "stop texting", "stop texting me", "stop texts", "stop sending", "stop sms",
            "stop promotions", "opt me out", "remove me", "unsubscribe me", "unsubscribe all",
            "cancel all", "end all", "quit all", "no more", "no more texts", "no more messages",
            "do not text", "do not text me", "dont text me", "don t text me",
        ],
        opt_in: &["restart", "resubscribe", "opt me in", "unblock"],
        help: &["support", "help me"],
    },
    Vocabulary {
        language: Some(Language::De),
        opt_out: &[
            "stopp", "abmelden", "abmeldung", "abbestellen", "ende", "austragen", "keine sms",
            "keine sms mehr", "keine werbung",
        ],
        opt_in: &["anmelden", "starten", "ja"],
        help: &["hilfe"],
    },
    Vocabulary {
        language: Some(Language::Es),
        opt_out: &[
            "baja", "alto", "parar", "pare", "cancelar", "fin", "detener", "salir", "basta",
            "desuscribir", "darme de baja", "no mas",
        ],
        opt_in: &["alta", "comenzar", "iniciar", "empezar", "si"],
        help: &["ayuda"],
    },
    Vocabulary {
        language: Some(Language::Fr),
        opt_out: &[
            "arrete", "arreter", "arretez", "arrett", "desabonner", "desinscription",
            "desinscrire", "desinscrit", "fin", "annuler", "stop sms", "stop pub",
        ],
        opt_in: &["debut", "debuter", "commencer", "demarrer", "oui"],
        help: &["aide", "aidez moi"],
    },
    Vocabulary {
        language: Some(Language::It),
        opt_out: &[
            "ferma", "basta", "cancella", "cancellami", "disiscrivi", "disiscrizione", "annulla",
        ],
        opt_in: &["inizia", "inizio", "iscrivi"],
        help: &["aiuto"],
    },
    Vocabulary {
        language: Some(Language::Nl),
        opt_out: &["afmelden", "uitschrijven", "stoppen", "einde"],
        opt_in: &["aanmelden", "beginnen"],
        help: &["hulp"],
    },
    Vocabulary {
        language: Some(Language::Pl),
        opt_out: &["koniec", "wypisz", "rezygnuje", "anuluj"],
        opt_in: &["zapisz", "wznow"],
        help: &["pomoc"],
    },
    Vocabulary {
        language: Some(Language::Pt),
        opt_out: &["parar", "pare", "sair", "cancelar", "remover", "descadastrar", "fim"],
        opt_in: &["iniciar", "comecar", "voltar", "sim"],
        help: &["ajuda"],
    },
    Vocabulary {
        language: Some(Language::Sv),
        opt_out: &["stopp", "avsluta", "sluta", "avregistrera", "slut"],
        opt_in: &["starta", "borja"],
        help: &["hjalp", "hjelp", "hjaelp"],
    },
    Vocabulary {
        language: Some(Language::Tr),
        opt_out: &["dur", "durdur", "iptal", "ret"],
        opt_in: &["basla", "baslat", "evet"],
        help: &["yardim", "bilgi"],
    },
];

/// Words of courtesy and emphasis that may stand around a keyword without changing it.
#[rustfmt::skip]
pub const COURTESY: &[&str] = &[
    "please", "pls", "plz", "thanks", "thank you", "thx", "now", "immediately", "bitte", "danke",
    "sofort", "por favor", "gracias", "ya", "svp", "s il vous plait", "merci", "per favore",
    "grazie", "alstublieft", "aub", "prosze", "obrigado", "obrigada", "tack", "lutfen",
];

/// The built-in replies to an opt-out, an opt-in and a call for help: GSM 03.38 letters, one segment each while the
/// brand is short.
fn replies(language: Language) -> [&'static str; 3] {
    match language {
        Language::En => [
            "You are unsubscribed and will receive no more messages from {number}. Reply START to resubscribe.",
            "You are subscribed again to messages from {number}. Reply HELP for help, STOP to unsubscribe.",
            "Reply STOP to unsubscribe from {number}, START to resubscribe. Msg & data rates may apply.",
        ],
        Language::De => [
            "Sie sind abgemeldet und erhalten keine Nachrichten mehr von {number}. Mit START wieder anmelden.",
            "Sie sind wieder angemeldet für Nachrichten von {number}. HILFE für Hilfe, STOP zum Abmelden.",
            "Antworten Sie STOP, um sich von {number} abzumelden, START, um sich wieder anzumelden.",
        ],
        Language::Es => [
            "Ha cancelado los mensajes de {number}. Responda START para volver a recibirlos.",
            "Vuelve a recibir mensajes de {number}. Responda AYUDA para ayuda, BAJA para cancelar.",
            "Responda BAJA para no recibir mensajes de {number}, START para volver a recibirlos.",
        ],
        Language::Fr => [
            "Désabonnement fait: plus aucun message du {number}. Répondez START pour revenir.",
            "Vous recevez de nouveau les messages du {number}. Répondez AIDE pour de l'aide, STOP pour vous désabonner.",
            "Répondez STOP pour ne plus recevoir de messages du {number}, START pour les recevoir de nouveau.",
        ],
        Language::It => [
            "Disiscrizione effettuata: nessun altro messaggio da {number}. Rispondi START per riattivare.",
            "Riceverai di nuovo i messaggi da {number}. AIUTO per assistenza, STOP per disattivare.",
            "Rispondi STOP per non ricevere messaggi da {number}, START per riattivarli.",
        ],
        Language::Nl => [
            "U bent afgemeld en ontvangt geen berichten meer van {number}. Antwoord START om weer aan te melden.",
            "U ontvangt weer berichten van {number}. HULP voor hulp, STOP om af te melden.",
            "Antwoord STOP om u af te melden voor {number}, START om u weer aan te melden.",
        ],
        Language::Pl => [
            "Wypisano: nie otrzymasz wiecej wiadomosci z {number}. Odpisz START, aby wrocic.",
            "Znow otrzymujesz wiadomosci z {number}. POMOC - pomoc, STOP - rezygnacja.",
            "Odpisz STOP, aby nie otrzymywac wiadomosci z {number}, START, aby je wznowic.",
        ],
        Language::Pt => [
            "Cancelou as mensagens de {number}. Responda START para voltar a receber.",
            "Volta a receber mensagens de {number}. AJUDA para ajuda, SAIR para cancelar.",
            "Responda SAIR para cancelar as mensagens de {number}, START para voltar a receber.",
        ],
        Language::Sv => [
            "Du är avregistrerad och får inga fler meddelanden från {number}. Svara START för att börja igen.",
            "Du får åter meddelanden från {number}. Svara HJÄLP för hjälp, STOPP för att avsluta.",
            "Svara STOPP för att avsluta meddelanden från {number}, START för att börja igen.",
        ],
        Language::Tr => [
            "{number} listesinden cikarildiniz, artik mesaj almayacaksiniz. Geri donmek icin START yazin.",
            "{number} mesajlarini yeniden alacaksiniz. Yardim: YARDIM, iptal: DUR.",
            "{number} mesajlarini durdurmak icin DUR, yeniden almak icin START yazin.",
        ],
    }
}

/// The built-in reply to a request.
pub fn built_in(language: Language, request: Request) -> &'static str {
    let [opt_out, opt_in, help] = replies(language);
    match request {
        Request::OptOut => opt_out,
        Request::OptIn => opt_in,
        Request::Help => help,
    }
}

impl Replies {
    pub fn of(&self, request: Request) -> Option<&String> {
        match request {
            Request::OptOut => self.opt_out.as_ref(),
            Request::OptIn => self.opt_in.as_ref(),
            Request::Help => self.help.as_ref(),
        }
    }
}

/// The text as words compare: lower case, no accents, runs of anything but letters and digits are one space; letters
/// written apart are one word ("S.T.O.P"). Stops after `limit` octets.
pub fn comparable(text: &str, limit: usize) -> String {
    let mut words = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        if words.len() >= limit {
            break;
        }
        if c.is_ascii() {
            match c.is_ascii_alphanumeric() {
                true => words.push(c.to_ascii_lowercase()),
                false => space(&mut words),
            }
        } else {
            push_folded(c, &mut words);
        }
    }
    words.truncate(words.trim_end().len());
    let spelled = words.len() >= 3 && words.split(' ').all(|word| word.chars().count() == 1);
    if spelled {
        words.replace(' ', "")
    } else {
        words
    }
}

fn push_folded(c: char, words: &mut String) {
    let plain = match c {
        '\u{ad}'
        | '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' => return,
        '\u{ff01}'..='\u{ff5e}' => match char::from((c as u32 - 0xff01) as u8 + b'!') {
            ascii if ascii.is_ascii_alphanumeric() => ascii.to_ascii_lowercase(),
            _ => return space(words),
        },
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ą' | 'ā' | 'ă' | 'À' | 'Á' | 'Â' | 'Ã' | 'Ä' | 'Å'
        | 'Ą' | 'Ā' | 'Ă' => 'a',
        'ç' | 'ć' | 'č' | 'Ç' | 'Ć' | 'Č' => 'c',
        'ď' | 'đ' | 'Ď' | 'Đ' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ę' | 'ě' | 'ē' | 'ė' | 'È' | 'É' | 'Ê' | 'Ë' | 'Ę' | 'Ě' | 'Ē'
        | 'Ė' => 'e',
        'ğ' | 'Ğ' => 'g',
        'ì' | 'í' | 'î' | 'ï' | 'ı' | 'ī' | 'Ì' | 'Í' | 'Î' | 'Ï' | 'İ' | 'Ī' => 'i',
        'ł' | 'Ł' => 'l',
        'ñ' | 'ń' | 'ň' | 'Ñ' | 'Ń' | 'Ň' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ő' | 'Ò' | 'Ó' | 'Ô' | 'Õ' | 'Ö' | 'Ø' | 'Ő' => {
            'o'
        }
        'ř' | 'Ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' | 'Ś' | 'Š' | 'Ş' | 'Ș' => 's',
        'ť' | 'ţ' | 'ț' | 'Ť' | 'Ţ' | 'Ț' => 't',
        'ù' | 'ú' | 'û' | 'ü' | 'ů' | 'ű' | 'ū' | 'Ù' | 'Ú' | 'Û' | 'Ü' | 'Ů' | 'Ű' | 'Ū' => {
            'u'
        }
        'ý' | 'ÿ' | 'Ý' | 'Ÿ' => 'y',
        'ź' | 'ż' | 'ž' | 'Ź' | 'Ż' | 'Ž' => 'z',
        'ß' => return words.push_str("ss"),
        _ if c.is_alphanumeric() => return words.extend(c.to_lowercase()),
        _ => return space(words),
    };
    words.push(plain);
}

fn space(words: &mut String) {
    if !words.is_empty() && !words.ends_with(' ') {
        words.push(' ');
    }
}

/// The words without courtesy around them: "please stop now, thanks" is "stop".
pub fn without_courtesy(words: &str) -> &str {
    let mut core = words;
    loop {
        let before = core;
        for courtesy in COURTESY {
            if let Some(rest) = core
                .strip_suffix(courtesy)
                .and_then(|rest| rest.strip_suffix(' '))
            {
                core = rest;
            }
            if let Some(rest) = core
                .strip_prefix(courtesy)
                .and_then(|rest| rest.strip_prefix(' '))
            {
                core = rest;
            }
        }
        if core == before {
            return core;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_punctuation_and_spaces_do_not_matter() {
        for text in [
            "STOP",
            " stop.",
            "\"Stop!\"",
            "«stop»",
            "S.T.O.P.",
            "s t o p",
            "ＳＴＯＰ",
            "st\u{200b}op",
            "stop 🛑🛑",
            "- STOP -",
        ] {
            assert_eq!(comparable(text, 100), "stop", "{text}");
        }
        assert_eq!(comparable("ARRÊTÉ", 100), "arrete");
        assert_eq!(comparable("arre\u{302}te\u{301}", 100), "arrete");
        assert_eq!(comparable("Opt-Out", 100), "opt out");
        assert_eq!(comparable("СТОП", 100), "стоп");
        assert_eq!(comparable("!!", 100), "");
    }

    #[test]
    fn courtesy_falls_away_but_never_all_of_the_text() {
        assert_eq!(without_courtesy("please stop now thanks"), "stop");
        assert_eq!(without_courtesy("stop por favor"), "stop");
        assert_eq!(without_courtesy("please"), "please");
        assert_eq!(without_courtesy("now please"), "now");
        assert_eq!(without_courtesy("stopnow"), "stopnow");
    }

    #[test]
    fn long_texts_are_cut() {
        assert!(comparable(&"ß".repeat(1000), 64).len() <= 66);
    }

    #[test]
    fn built_in_words_are_in_their_comparable_form() {
        for vocabulary in VOCABULARIES {
            for word in [vocabulary.opt_out, vocabulary.opt_in, vocabulary.help].concat() {
                assert_eq!(comparable(word, 100), word);
                assert!(!without_courtesy(word).is_empty());
            }
        }
    }
}
