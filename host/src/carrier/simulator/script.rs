//! Scripts: what a simulated carrier is like and how that changes with time, read from TOML. The
//! named personalities are scripts that come with the program. Knows the words of the settings as
//! they stand in JSON, not what they do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings::{DELAY_MAX_MS, LIST_MAX, Settings, SettingsError};

/// A personality that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persona {
    pub name: &'static str,
    /// The script itself, to be read and changed.
    pub text: &'static str,
}

macro_rules! personas {
    ($($name:literal),* $(,)?) => {
        /// From the best carrier to the worst.
        pub const PERSONAS: &[Persona] = &[
            $(Persona { name: $name, text: include_str!(concat!("personas/", $name, ".toml")) }),*
        ];
    };
}
personas!(
    "polite",
    "strict",
    "slow",
    "throttling",
    "flapping",
    "lying-ids",
    "receipt-storming",
    "swallowing",
    "garbage",
);

/// A script as it is written. See `heliograph smsc --help` and the files of the personalities.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// For people.
    pub about: String,
    /// Settings that hold throughout, by the names that the control API has.
    pub set: Map<String, Value>,
    /// One after the other; none: `set` alone.
    pub step: Vec<Step>,
    /// After the last step from the first again; else the last one stays.
    pub repeat: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            about: String::new(),
            set: Map::new(),
            step: Vec::new(),
            repeat: true,
        }
    }
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    pub about: String,
    pub for_ms: u32,
    /// Up to so much longer, by the seed.
    pub jitter_ms: u32,
    /// Done once, as the step begins.
    pub act: Option<Act>,
    /// Settings of this step alone, over those of the script.
    pub set: Map<String, Value>,
}

/// Something that happens at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Every connection is cut.
    Drop,
    /// Every bound session is sent unbind.
    Unbind,
    /// Every bound session is sent octets that are out of place.
    Garbage,
}

/// A script that was checked, with the settings of each step filled in. Plain settings are one too.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub first: Settings,
    pub steps: Vec<ProgramStep>,
    pub repeat: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProgramStep {
    pub lasts: Duration,
    pub jitter_ms: u32,
    pub act: Option<Act>,
    pub settings: Settings,
}

impl From<Settings> for Program {
    fn from(settings: Settings) -> Program {
        Program {
            first: settings,
            steps: Vec::new(),
            repeat: false,
        }
    }
}

/// What is wrong with a script: its author's fault, and trying again does not help.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptError {
    /// No TOML, or no script; says where.
    Toml(String),
    /// A step's own rule, by its number from 1.
    Step(usize, String),
    Settings {
        /// 0 is the script's own `set`.
        step: usize,
        error: SettingsError,
    },
    NoPersona(String),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScriptError::Toml(error) => f.write_str(error.trim_end()),
            ScriptError::Step(step, rule) => write!(f, "step {step}: {rule}"),
            ScriptError::Settings { step: 0, error } => write!(f, "set: {error}"),
            ScriptError::Settings { step, error } => write!(f, "step {step}: set: {error}"),
            ScriptError::NoPersona(name) => {
                let names: Vec<&str> = PERSONAS.iter().map(|p| p.name).collect();
                write!(
                    f,
                    "there is no persona {name:?}; there are {}",
                    names.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for ScriptError {}

impl Persona {
    pub fn find(name: &str) -> Result<Persona, ScriptError> {
        let found = PERSONAS.iter().find(|p| p.name == name);
        found
            .copied()
            .ok_or_else(|| ScriptError::NoPersona(name.to_owned()))
    }

    pub fn script(&self) -> Result<Script, ScriptError> {
        Script::parse(self.text)
    }
}

impl Script {
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        toml::from_str(text).map_err(|e| ScriptError::Toml(e.to_string()))
    }

    /// Fills in every step's settings: the defaults, under the script's, under the step's, under
    /// those of `over`, which hold throughout.
    pub fn program(&self, over: &Map<String, Value>) -> Result<Program, ScriptError> {
        if self.step.len() > LIST_MAX {
            let rule = format!("there are more than {LIST_MAX} steps");
            return Err(ScriptError::Step(self.step.len(), rule));
        }
        let settings = |number: usize, own: &Map<String, Value>| {
            let mut all = self.set.clone();
            all.extend(own.clone());
            all.extend(over.clone());
            Settings::default()
                .patched(Value::Object(all))
                .map_err(|error| ScriptError::Settings {
                    step: number,
                    error,
                })
        };
        let first = settings(0, &Map::new())?;
        let mut steps = Vec::with_capacity(self.step.len());
        for (number, step) in (1..).zip(&self.step) {
            let longest = DELAY_MAX_MS;
            if !(1..=longest).contains(&step.for_ms) || step.jitter_ms > longest {
                let rule =
                    format!("for_ms goes from 1 to {longest}, jitter_ms from 0 to {longest}");
                return Err(ScriptError::Step(number, rule));
            }
            steps.push(ProgramStep {
                lasts: Duration::from_millis(u64::from(step.for_ms)),
                jitter_ms: step.jitter_ms,
                act: step.act,
                settings: settings(number, &step.set)?,
            });
        }
        Ok(Program {
            first: steps.first().map_or(first, |s| s.settings.clone()),
            steps,
            repeat: self.repeat,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn over(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_personality_is_a_good_script_and_says_what_it_is() {
        for persona in PERSONAS {
            let script = persona
                .script()
                .unwrap_or_else(|e| panic!("{}: {e}", persona.name));
            assert!(!script.about.is_empty(), "{}", persona.name);
            let program = script.program(&over(json!({"seed": 7})));
            let program = program.unwrap_or_else(|e| panic!("{}: {e}", persona.name));
            assert_eq!(program.first.seed, 7);
        }
        assert!(
            Persona::find("rude")
                .unwrap_err()
                .to_string()
                .contains("polite")
        );
    }

    #[test]
    fn a_step_is_laid_over_the_script_and_the_caller_over_both() {
        let text = r#"
            repeat = false
            [set]
            latency_ms = 5
            throughput = 7
            [[step]]
            for_ms = 10
            set = { throughput = 8 }
            [[step]]
            for_ms = 20
            jitter_ms = 3
            act = "unbind"
        "#;
        let script = Script::parse(text).unwrap();
        let program = script.program(&over(json!({"latency_ms": 6}))).unwrap();
        let of = |s: &ProgramStep| (s.settings.latency_ms, s.settings.throughput, s.act);
        let steps: Vec<_> = program.steps.iter().map(of).collect();
        assert_eq!(steps, [(6, 8, None), (6, 7, Some(Act::Unbind))]);
        assert!(!program.repeat);
        assert_eq!(program.steps[1].jitter_ms, 3);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = |text: &str| match Script::parse(text) {
            Ok(script) => script.program(&Map::new()).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error("[set]\nlatency = 1").contains("latency"));
        assert!(error("[[step]]\nfor_ms = 0").contains("step 1: for_ms"));
        let second = "[[step]]\nfor_ms = 1\n[[step]]\nfor_ms = 1\nset = { drop_rate = 2.0 }";
        assert!(error(second).contains("step 2: set: drop_rate"));
        assert!(error("[[step]]\nfor_ms = 1\nact = \"explode\"").contains("explode"));
        assert!(error("steps = 1").contains("steps"));
        assert!(error("[[step]\n").contains("line 1"));
    }
}
