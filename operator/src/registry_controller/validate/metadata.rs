//! Names of labels and annotations. The definition cannot bound them, so the API server would refuse the object that has one, and
//! say so of that.

use crate::api::registry::{PodTemplate, Service};

/// What is wrong with the first name that is none.
pub(super) fn names(template: &PodTemplate, service: &Service) -> Result<(), String> {
    let PodTemplate { node_selector, labels, annotations, service_account_annotations, .. } = template;
    for (field, map) in [
        ("podTemplate.nodeSelector", node_selector),
        ("podTemplate.labels", labels),
        ("podTemplate.annotations", annotations),
        ("podTemplate.serviceAccountAnnotations", service_account_annotations),
        ("service.annotations", &service.annotations),
    ] {
        // In annotations the prefix may have capitals; Kubernetes does not tell them apart.
        let any_case = field.ends_with("nnotations");
        if let Some(name) = map.keys().find(|name| !is_qualified_name(name, any_case)) {
            return Err(format!(
                "{field}: \"{name}\" is no name of one; write at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, and before it perhaps a lower-case domain and a slash, such as example.com/team"
            ));
        }
    }
    Ok(())
}

/// As Kubernetes has it (`IsQualifiedName` of apimachinery).
fn is_qualified_name(name: &str, any_case: bool) -> bool {
    let (prefix, name) = name.split_once('/').map_or((None, name), |(prefix, name)| (Some(prefix), name));
    let is_domain =
        |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(|label| is_framed(label, |letter| letter == b'-'));
    name.len() <= 63
        && is_framed(name, |letter| b"-_.".contains(&letter))
        && prefix.is_none_or(|prefix| {
            is_domain(prefix) && (any_case || !prefix.bytes().any(|letter| letter.is_ascii_uppercase()))
        })
}

/// Whether it consists of letters, digits and these others, and neither begins nor ends with one of the others.
fn is_framed(text: &str, other: impl Fn(u8) -> bool) -> bool {
    let is_end = |letter: Option<u8>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
        && text.bytes().all(|letter| letter.is_ascii_alphanumeric() || other(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_kubernetes_takes_for_one() {
        for name in ["a", "A.b_c-9", "example.com/a", "eks.amazonaws.com/role-arn"] {
            assert!(is_qualified_name(name, false), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "/", "a/", "/a", "a b", "-a", "a.", "a/b/c", "a..b/c", "a_b/c", "Example.com/a", "ü", &long] {
            assert!(!is_qualified_name(name, false), "{name}");
        }
        assert!(is_qualified_name("Example.com/a", true));
    }

    #[test]
    fn the_field_and_the_name_are_named_with_an_example() {
        let annotations = [("eks.amazonaws.com role-arn".to_owned(), "arn".to_owned())].into();
        let template = PodTemplate { service_account_annotations: annotations, ..Default::default() };
        let said = names(&template, &Service::default()).unwrap_err();
        let beginning =
            "podTemplate.serviceAccountAnnotations: \"eks.amazonaws.com role-arn\" is no name of one; write ";
        assert!(said.starts_with(beginning) && said.ends_with("such as example.com/team"), "{said}");
        assert!(names(&PodTemplate::default(), &Service::default()).is_ok());
    }
}
