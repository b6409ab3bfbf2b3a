//! How settings are declared: each once, with its name, type, default, unit, range and documentation.
//!
//! `settings!` makes a section: a struct with serde names, its `Default`, and a table of [`Setting`]s, from which the program builds the
//! flags of its command line. `choice!` makes an enum whose values have names in files and flags.

use std::fmt;
use std::path::PathBuf;

/// One setting, as a file and a command line know it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name in files; the flag has dashes in the place of underscores.
    pub key: &'static str,
    /// Section of the help.
    pub heading: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What stands for a value in the help, such as `STEPS`; empty for switches.
    pub unit: &'static str,
    /// Numbers allowed; `None` where the type says it all, or where the section's own check does.
    pub range: Option<Range>,
    /// A choice and its values beside which alone this setting has an effect.
    pub needs: Option<(&'static str, &'static [&'static str])>,
    documentation: &'static str,
    off: &'static str,
    empty: &'static str,
    default: fn() -> String,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers from 0 to this.
    Whole(u64),
    /// A decimal number.
    Number,
    /// Decimal numbers between commas.
    Numbers,
    /// Any text.
    Text,
    /// The path of a file or folder.
    Path,
    /// On or off.
    Switch,
    /// One of these names.
    Choice(&'static [&'static str]),
}

/// Which numbers are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Any finite number from this one on.
    AtLeast(f64),
    /// Any finite number above 0.
    Positive,
    /// From the first to the second, both included.
    Closed(f64, f64),
    /// From the first to the second, which is excluded.
    HalfOpen(f64, f64),
}

impl Range {
    /// Whether the number lies in it.
    pub fn holds(self, number: f64) -> bool {
        match self {
            Self::AtLeast(low) => number.is_finite() && number >= low,
            Self::Positive => number.is_finite() && number > 0.0,
            Self::Closed(low, high) => (low..=high).contains(&number),
            Self::HalfOpen(low, high) => (low..high).contains(&number),
        }
    }
}

impl fmt::Display for Range {
    /// What follows on "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(low) => write!(f, "at least {low}"),
            Self::Positive => f.write_str("a positive number"),
            Self::Closed(low, high) => write!(f, "in [{low}, {high}]"),
            Self::HalfOpen(low, high) => write!(f, "in [{low}, {high})"),
        }
    }
}

impl Setting {
    /// A setting with its section, documentation, type and default as text.
    pub const fn new(
        key: &'static str,
        heading: &'static str,
        documentation: &'static str,
        kind: Kind,
        default: fn() -> String,
    ) -> Self {
        Self { key, heading, kind, unit: "", range: None, needs: None, documentation, off: "", empty: "", default }
    }

    /// With a unit, or another name for its value in the help.
    pub const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// In another section of the help than the rest of its struct.
    pub const fn under(self, heading: &'static str) -> Self {
        Self { heading, ..self }
    }

    /// With the numbers that are allowed.
    pub const fn within(self, range: Range) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Of no effect unless the choice `key` has one of these values.
    pub const fn needs(self, key: &'static str, values: &'static [&'static str]) -> Self {
        Self { needs: Some((key, values)), ..self }
    }

    /// With what stands for an empty default in the help.
    pub const fn empty(self, empty: &'static str) -> Self {
        Self { empty, ..self }
    }

    /// What is said of the flag that switches off what is on by default.
    pub const fn off(self, off: &'static str) -> Self {
        Self { off, ..self }
    }

    /// The default as it is typed, or what stands for an empty one.
    pub fn default_text(&self) -> String {
        let text = (self.default)();
        if text.is_empty() { self.empty.to_owned() } else { text }
    }

    /// Whether its flag switches off what is on by default: `--no-flip`.
    pub fn is_negated(&self) -> bool {
        self.kind == Kind::Switch && self.default_text() == "true"
    }

    /// The flag without its two dashes.
    pub fn flag(&self) -> String {
        format!("{}{}", if self.is_negated() { "no-" } else { "" }, self.key.replace('_', "-"))
    }

    /// Documentation, range, default and possible values, in one line.
    pub fn help(&self) -> String {
        let mut help = sentence(if self.is_negated() { self.off } else { self.documentation }).to_owned();
        if let Some(range) = self.range {
            help += &format!(" [must be {range}]");
        }
        let default = self.default_text();
        if self.kind != Kind::Switch && !default.is_empty() {
            help += &format!(" [default: {default}]");
        }
        if let Kind::Choice(names) = self.kind {
            help += &format!(" [possible values: {}]", names.join(", "));
        }
        help
    }

    /// Fails on a number outside of the range.
    ///
    /// # Errors
    /// Words with the flag, what is allowed, and the value.
    pub fn check<T: Value>(&self, value: &T) -> Result<(), String> {
        let outside = |range: &Range| value.number().is_some_and(|number| !range.holds(number));
        match self.range.filter(outside) {
            None => Ok(()),
            Some(range) => Err(format!("--{} must be {range}, found {}", self.flag(), value.text())),
        }
    }
}

/// Documentation as a help text: without the blank in front, and without the full stop.
pub fn sentence(documentation: &'static str) -> &'static str {
    let text = documentation.trim();
    if text.ends_with("..") { text } else { text.trim_end_matches('.') }
}

/// A type that settings have.
pub trait Value {
    /// What values it takes.
    const KIND: Kind;

    /// The value as it is typed after a flag.
    fn text(&self) -> String;

    /// The value as a number, if it is one.
    fn number(&self) -> Option<f64> {
        None
    }
}

macro_rules! whole_numbers {
    ($($type:ty)*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Whole(<$type>::MAX as u64);

            fn text(&self) -> String {
                self.to_string()
            }

            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )* };
}
whole_numbers!(u32 u64 usize);

impl Value for f32 {
    const KIND: Kind = Kind::Number;

    fn text(&self) -> String {
        self.to_string()
    }

    fn number(&self) -> Option<f64> {
        Some(f64::from(*self))
    }
}

impl Value for [f32; 2] {
    const KIND: Kind = Kind::Numbers;

    fn text(&self) -> String {
        format!("{},{}", self[0], self[1])
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Switch;

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Path;

    fn text(&self) -> String {
        self.display().to_string()
    }
}

/// An enum whose values have names: made by `choice!`.
pub trait Choice: Copy + Send + Sync + 'static {
    /// Every value with its name and its documentation.
    const CHOICES: &'static [(Self, &'static str, &'static str)];
}

/// Declares an enum whose values have names in files and flags.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $(
            $(#[doc = $doc:literal])*
            $variant:ident = $text:literal
        ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $(
            $(#[doc = $doc])*
            #[serde(rename = $text)]
            $variant,
        )* }

        impl $name {
            /// As files and flags name it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::settings::Choice for $name {
            const CHOICES: &'static [(Self, &'static str, &'static str)] = &[$((Self::$variant, $text, concat!($($doc),*)),)*];
        }

        impl $crate::settings::Value for $name {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Choice(&[$($text),*]);

            fn text(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}

/// Declares a section of settings. Each line is `"key" => field: Type = default;`, under its documentation, which the help prints; between
/// the default and the semicolon stand, after commas, the unit, the range and whatever else [`Setting`] has a method for.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $heading:literal { $(
            $(#[doc = $doc:literal])*
            $key:literal => $field:ident: $type:ty = $default:expr $(, $clause:ident($($argument:expr),*))*;
        )* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $(
            $(#[doc = $doc])*
            #[serde(rename = $key)]
            pub $field: $type,
        )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// The settings, in the order of the fields.
            pub const SETTINGS: &'static [$crate::settings::Setting] = &[$(
                $crate::settings::Setting::new(
                    $key,
                    $heading,
                    concat!($($doc),*),
                    <$type as $crate::settings::Value>::KIND,
                    || <$type as $crate::settings::Value>::text(&$default),
                )$(.$clause($($argument),*))*,
            )*];

            /// Fails on the first number that its setting does not allow.
            pub(crate) fn check_ranges(&self) -> Result<(), String> {
                let mut settings = Self::SETTINGS.iter();
                $(settings.next().map_or(Ok(()), |setting| setting.check(&self.$field))?;)*
                Ok(())
            }
        }
    };
}

pub(crate) use {choice, settings};
