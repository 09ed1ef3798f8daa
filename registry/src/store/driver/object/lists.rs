//! What a bucket lists. A page of a hundred names costs one request, however many there are.

use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use super::error::failed;
use super::{Object, Page, in_order, tries};
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
        Ok(self.first(prefix, None, limit, names_in).await?.items)
    }

    /// All names of objects right below a prefix, each with its size, which a list tells for nothing.
    pub(super) async fn names_and_sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        let with_size = |meta: &ObjectMeta| meta.location.filename().map(|name| (name.to_owned(), meta.size));
        let with_sizes = |listed: &ListResult| listed.objects.iter().filter_map(with_size).collect();
        Ok(self.first(prefix, None, usize::MAX, with_sizes).await?.items)
    }

    /// So many of the names right below a prefix that come after one, in order.
    pub(super) async fn names_after(&self, prefix: &Prefix, after: Option<&str>, count: usize) -> Result<Page<String>> {
        let is_of_directories = matches!(prefix, Prefix::Repositories);
        let place = |name: &str| if is_of_directories { in_order(name) } else { name.to_owned() };
        // Some servers do not know where a list is to begin.
        let comes_after = |name: &String| after.is_none_or(|after| place(name) > place(after));
        if self.pages.is_none() {
            let mut names = self.names(prefix, usize::MAX).await?;
            names.retain(comes_after);
            names.sort_unstable_by_key(|name| place(name));
            let more = names.len() > count;
            names.truncate(count);
            return Ok(Page { items: names, more });
        }
        let offset = after.map(|after| {
            let offset = offset(after);
            // The byte after the slash: past everything in the directory `after`.
            if is_of_directories && offset == after { format!("{offset}0") } else { offset }
        });
        let names_in = |listed: &ListResult| {
            let mut names = if is_of_directories { directories_in(listed) } else { objects_in(listed, prefix) };
            names.retain(comes_after);
            names
        };
        // One more, to know whether there is; but not if it costs a request.
        let asked = if count < MOST_IN_A_PAGE { count + 1 } else { count };
        let mut names = self.first(prefix, offset, asked, names_in).await?;
        names.more |= names.items.len() > count;
        names.items.truncate(count);
        Ok(names)
    }

    /// So many of what is read from the lists of those right below a prefix that come after an offset, and whether the store has
    /// more.
    async fn first<T>(
        &self,
        prefix: &Prefix,
        after: Option<String>,
        count: usize,
        names_in: impl Fn(&ListResult) -> Vec<T>,
    ) -> Result<Page<T>> {
        let Some(pages) = &self.pages else {
            let listed = self.objects.list_with_delimiter(Some(&self.path(prefix)?)).await;
            let mut items = names_in(&listed.map_err(list_failed(prefix))?);
            let more = items.len() > count;
            items.truncate(count);
            return Ok(Page { items, more });
        };
        let under = format!("{}{prefix}/", self.root);
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{under}{after}")),
            delimiter: Some("/".into()),
            max_keys: Some(count.min(MOST_IN_A_PAGE)),
            ..PaginatedListOptions::default()
        };
        let mut names = Page { items: Vec::new(), more: true };
        let listed = pages_of(Arc::clone(pages), under, options).map_err(list_failed(prefix));
        futures::pin_mut!(listed);
        while names.more
            && names.items.len() < count
            && let Some((page, more)) = listed.try_next().await?
        {
            names.items.extend(names_in(&page));
            names.more = more;
        }
        names.more |= names.items.len() > count;
        names.items.truncate(count);
        Ok(names)
    }

    /// Every name below a prefix, however deep.
    pub(super) fn names_below(&self, below: &Prefix) -> BoxStream<'static, Result<String>> {
        let of_tags = is_tags(below);
        let under = format!("{}{below}/", self.root);
        let name = move |meta: ObjectMeta| {
            let name = is_present(&meta, of_tags).then(|| name_below(&under, &meta.location)).flatten();
            futures::future::ready(Ok(name))
        };
        self.objects_below(&format_args!("{below}/")).map_err(list_failed(below)).try_filter_map(name).boxed()
    }

    /// Every name of the bucket that begins with the root, without it.
    pub(super) async fn all_names(&self) -> Result<Vec<String>> {
        let name = |meta: ObjectMeta| futures::future::ready(Ok(name_below(&self.root, &meta.location)));
        let names = self.objects_below(&"").try_filter_map(name).try_collect().await;
        names.map_err(|error| failed("list everything", error))
    }

    fn objects_below(&self, below: &dyn fmt::Display) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let under = format!("{}{below}", self.root);
        let Some(pages) = &self.pages else {
            return match Path::parse(&under) {
                Ok(under) => self.objects.list(Some(&under)),
                Err(error) => futures::stream::once(async { Err(error.into()) }).boxed(),
            };
        };
        let listed = pages_of(Arc::clone(pages), under, PaginatedListOptions::default());
        listed.map_ok(|(page, _)| futures::stream::iter(page.objects.into_iter().map(Ok))).try_flatten().boxed()
    }
}

/// One page after another, and whether there are more. One that breaks off is asked for again.
fn pages_of(
    pages: Arc<dyn PaginatedListStore>,
    under: String,
    options: PaginatedListOptions,
) -> impl Stream<Item = object_store::Result<(ListResult, bool)>> + Send {
    let state = Some((pages, under, options));
    futures::stream::try_unfold(state, |state| async move {
        let Some((pages, under, options)) = state else { return Ok(None) };
        let page = tries::whole(|| pages.list_paginated(Some(&under), options.clone())).await?;
        let next = page.page_token.map(|token| {
            let options = PaginatedListOptions { page_token: Some(token), ..options };
            (pages, under, options)
        });
        Ok(Some(((page.result, next.is_some()), next)))
    })
}

/// What a list that comes after anything that a client says can begin with: no store takes control characters, or more than a
/// kilobyte, and some take no `..` between slashes. The names that are listed are of printable ASCII without a slash, they begin
/// with none of `-`, `.` and `/`, and `~` never stands in them twice.
fn offset(after: &str) -> String {
    if after.starts_with('.') {
        return String::new();
    }
    let after = after.split_inclusive('/').next().unwrap_or_default();
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

/// What follows `under`, which ends with a slash or is nothing.
fn name_below(under: &str, location: &Path) -> Option<String> {
    location.as_ref().strip_prefix(under).map(str::to_owned)
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
        assert_eq!(offset("a//b?"), "a/");
        assert_eq!(offset("../b"), "", "everything comes after it");
        assert_eq!(offset("v1\0more"), "v1", "everything that begins with v1 and goes on comes after it");
        assert_eq!(offset("v1é"), "v1~~", "nothing that begins with v1 does");
        assert_eq!(offset(&"x".repeat(2000)).len(), LONGEST_OFFSET);
    }
}
