//! What a bucket lists. A page of a hundred names costs one request, however many there are.

use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use futures::stream::BoxStream;

use super::error::failed;
use super::{Object, in_order};
use crate::store::error::{Result, StoreError};
use crate::store::layout::Prefix;

/// What S3 gives at a time.
const MOST_IN_A_PAGE: usize = 1000;
/// Longer than any name that is listed.
const LONGEST_OFFSET: usize = 512;

impl Object {
    /// So many of the names right below a prefix, those of objects and those of directories.
    pub(super) async fn names(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        let names_in = |listed: &ListResult| [directories_in(listed), objects_in(listed, prefix)].concat();
        match &self.pages {
            Some(pages) if limit < MOST_IN_A_PAGE => self.paged(pages.as_ref(), prefix, None, limit, names_in).await,
            _ => {
                let listed = self.objects.list_with_delimiter(Some(&self.path(prefix)?)).await;
                let mut names = names_in(&listed.map_err(list_failed(prefix))?);
                names.truncate(limit);
                Ok(names)
            }
        }
    }

    /// So many of the names right below a prefix that come after one, in order.
    pub(super) async fn names_after(&self, prefix: &Prefix, after: Option<&str>, count: usize) -> Result<Vec<String>> {
        let is_of_directories = matches!(prefix, Prefix::Repositories);
        let Some(pages) = &self.pages else {
            let mut names = self.names(prefix, usize::MAX).await?;
            let place = |name: &str| if is_of_directories { in_order(name) } else { name.to_owned() };
            names.retain(|name| after.is_none_or(|after| place(name) > place(after)));
            names.sort_unstable_by_key(|name| place(name));
            names.truncate(count);
            return Ok(names);
        };
        let after = after.map(offset);
        if is_of_directories {
            // The byte after the slash: past everything in the directory `after`.
            let offset = after.map(|after| format!("{after}0"));
            self.paged(pages.as_ref(), prefix, offset, count, directories_in).await
        } else {
            self.paged(pages.as_ref(), prefix, after, count, |listed| objects_in(listed, prefix)).await
        }
    }

    async fn paged(
        &self,
        pages: &dyn PaginatedListStore,
        prefix: &Prefix,
        after: Option<String>,
        count: usize,
        names_in: impl Fn(&ListResult) -> Vec<String>,
    ) -> Result<Vec<String>> {
        let under = format!("{}{prefix}/", self.root);
        let offset = after.map(|after| format!("{under}{after}"));
        let mut names = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                delimiter: Some("/".into()),
                max_keys: Some(count.min(MOST_IN_A_PAGE)),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = pages.list_paginated(Some(&under), options).await.map_err(list_failed(prefix))?;
            names.extend(names_in(&page.result));
            page_token = page.page_token;
            if page_token.is_none() || names.len() >= count {
                names.truncate(count);
                return Ok(names);
            }
        }
    }

    /// Every name below a prefix, however deep.
    pub(super) fn names_below(&self, below: &Prefix) -> BoxStream<'static, Result<String>> {
        let under = match self.path(below) {
            Ok(under) => under,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let objects = self.objects.list(Some(&under)).map_err(list_failed(below));
        let of_tags = is_tags(below);
        let name = move |meta: ObjectMeta| {
            let name = is_present(&meta, of_tags).then(|| name_below(&under, &meta.location)).flatten();
            futures::future::ready(Ok(name))
        };
        objects.try_filter_map(name).boxed()
    }

    /// Every name of the bucket that begins with the root, without it.
    pub(super) async fn all_names(&self) -> Result<Vec<String>> {
        let root = (!self.root.is_empty()).then(|| self.path(&"")).transpose()?;
        let name = |meta: ObjectMeta| match &root {
            Some(root) => name_below(root, &meta.location),
            None => Some(meta.location.to_string()),
        };
        let listed = self.objects.list(root.as_ref()).map_ok(name);
        let names = listed.try_filter_map(|name| futures::future::ready(Ok(name))).try_collect().await;
        names.map_err(|error| failed("list everything", error))
    }
}

/// What a list that comes after anything that a client says can begin with: no store takes control characters, or more than a
/// kilobyte. The names that are listed are of printable ASCII, and `~` never stands in them twice.
fn offset(after: &str) -> String {
    let printable = after.find(|c: char| !matches!(c, ' '..='~')).unwrap_or(after.len());
    let (kept, rest) = after.split_at(printable.min(LONGEST_OFFSET));
    let is_past_all = rest.chars().next().is_some_and(|c| c > '~');
    if is_past_all { format!("{kept}~~") } else { kept.to_owned() }
}

fn directories_in(listed: &ListResult) -> Vec<String> {
    listed.common_prefixes.iter().filter_map(Path::filename).map(str::to_owned).collect()
}

fn objects_in(listed: &ListResult, prefix: &Prefix) -> Vec<String> {
    let of_tags = is_tags(prefix);
    let present = listed.objects.iter().filter(|meta| is_present(meta, of_tags));
    present.filter_map(|meta| meta.location.filename()).map(str::to_owned).collect()
}

fn name_below(under: &Path, location: &Path) -> Option<String> {
    location.as_ref().strip_prefix(under.as_ref())?.strip_prefix('/').map(str::to_owned)
}

fn list_failed(prefix: &Prefix) -> impl Fn(object_store::Error) -> StoreError + Send + Sync + 'static {
    let doing = format!("list {prefix}");
    move |error| failed(&doing, error)
}

const fn is_tags(prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::Tags(_))
}

/// An empty tag is one that was removed.
const fn is_present(meta: &ObjectMeta, of_tags: bool) -> bool {
    meta.size > 0 || !of_tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_begins_after_whatever_a_client_says() {
        assert_eq!(offset("v1.0"), "v1.0");
        assert_eq!(offset("a//b?"), "a//b?");
        assert_eq!(offset("v1\0more"), "v1", "everything that begins with v1 and goes on comes after it");
        assert_eq!(offset("v1é"), "v1~~", "nothing that begins with v1 does");
        assert_eq!(offset(&"x".repeat(2000)).len(), LONGEST_OFFSET);
    }
}
