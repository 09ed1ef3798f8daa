//! The image that pods run.

use crate::api::registry::Image;

/// `default` with what the Registry says instead.
pub(super) fn reference(default: &str, image: &Image) -> String {
    let (rest, digest) = default.split_once('@').map_or((default, None), |(rest, digest)| (rest, Some(digest)));
    // A ':' before the last '/' belongs to a port.
    let name_at = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = rest[name_at..]
        .rfind(':')
        .map_or((rest, None), |colon| (&rest[..name_at + colon], Some(&rest[name_at + colon + 1..])));
    let repository = image.repository.as_deref().unwrap_or(repository);
    match (&image.digest, &image.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => match (digest, tag) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(tag)) => format!("{repository}:{tag}"),
            (None, None) => repository.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_default_with_what_the_registry_says_instead() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = |repository: &str, tag: &str, digest: &str| Image {
            repository: (!repository.is_empty()).then(|| repository.into()),
            tag: (!tag.is_empty()).then(|| tag.into()),
            digest: (!digest.is_empty()).then(|| digest.into()),
            ..Default::default()
        };
        for (default, image, expected) in [
            ("r:5000/a:1", image("", "", ""), "r:5000/a:1".to_owned()),
            ("r:5000/a:1", image("b", "", ""), "b:1".into()),
            ("r:5000/a:1", image("", "2", ""), "r:5000/a:2".into()),
            ("r:5000/a", image("", "", ""), "r:5000/a".into()),
            ("a:1", image("", "", &digest), format!("a@{digest}")),
            (&format!("a:1@{digest}"), image("", "", ""), format!("a@{digest}")),
            (&format!("a@{digest}"), image("", "2", ""), "a:2".into()),
        ] {
            assert_eq!(reference(default, &image), expected);
        }
    }
}
