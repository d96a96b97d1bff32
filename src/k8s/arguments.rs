//! Command lines as kubeadm makes them (`cmd/kubeadm/app/util/arguments.go`, `apis/kubeadm/argument.go`): defaults in order of their
//! names, then what the user says, as often and in the order the user says it; a flag the user names replaces its default.

use crate::config::node::Arg;

/// A flag with its default.
pub fn default(name: &str, value: impl Into<String>) -> Arg {
    Arg { name: name.to_owned(), value: value.into() }
}

/// `--name=value` for the sorted defaults that `overrides` do not name, then for all `overrides`.
pub fn command_line(mut defaults: Vec<Arg>, overrides: &[Arg]) -> Vec<String> {
    defaults.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    defaults
        .iter()
        .filter(|default| !overrides.iter().any(|given| given.name == default.name))
        .chain(overrides)
        .map(|arg| format!("--{}={}", arg.name, arg.value))
        .collect()
}

/// The value a program would use: that of the last flag of this name.
pub fn last<'a>(arguments: &'a [Arg], name: &str) -> Option<&'a str> {
    arguments.iter().rev().find(|arg| arg.name == name).map(|arg| arg.value.as_str())
}

/// Replaces the value of a default, or adds it.
pub fn set(defaults: &mut Vec<Arg>, name: &str, value: impl Into<String>) {
    match defaults.iter_mut().rev().find(|arg| arg.name == name) {
        Some(arg) => arg.value = value.into(),
        None => defaults.push(default(name, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sorted_and_overrides_keep_their_order_and_number() {
        let defaults = vec![default("b", "1"), default("a", "2"), default("c", "3")];
        let overrides = [default("z", "last"), default("b", "x"), default("b", "y")];
        assert_eq!(command_line(defaults, &overrides), ["--a=2", "--c=3", "--z=last", "--b=x", "--b=y"]);
    }

    #[test]
    fn the_last_of_equal_flags_counts() {
        assert_eq!(last(&[default("a", "1"), default("a", "2")], "a"), Some("2"));
        assert_eq!(last(&[], "a"), None);
    }
}
