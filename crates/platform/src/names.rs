//! From what was typed to one container: names, ids, beginnings of ids, and what came close.

/// What a platform knows a container by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The name that `ps` prints, without its kind.
    pub(crate) name: String,
    /// Other names that mean it.
    pub(crate) aliases: Vec<String>,
    /// The id its runtime gave it.
    pub(crate) id: String,
}

/// What a typed name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// The container at this place in the list.
    One(usize),
    /// Several, by their names.
    Many(Vec<String>),
    /// None; these names come close.
    None(Vec<String>),
}

/// A name goes before an alias, that before an id, that before the beginning of one, as with docker's own command.
pub(crate) fn find(typed: &str, known: &[Known]) -> Meant {
    let steps: [&dyn Fn(&Known) -> bool; 4] = [
        &|one| one.name == typed,
        &|one| one.aliases.iter().any(|alias| alias == typed),
        &|one| one.id == typed,
        &|one| is_beginning(typed, &one.id),
    ];
    for step in steps {
        let hits: Vec<usize> =
            known.iter().enumerate().filter(|(_, one)| step(one)).map(|(at, _)| at).collect();
        match hits.as_slice() {
            [] => {}
            [one] => return Meant::One(*one),
            many => return Meant::Many(many.iter().map(|&at| unique(&known[at], known)).collect()),
        }
    }
    Meant::None(near(typed, known.iter().map(|one| one.name.as_str())))
}

/// A word that means this one alone: its name, or its id when the name is another's too.
fn unique(one: &Known, known: &[Known]) -> String {
    if known.iter().filter(|other| other.name == one.name).count() > 1 {
        return short(&one.id).to_owned();
    }
    one.name.clone()
}

/// An id as people write it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn is_beginning(typed: &str, id: &str) -> bool {
    typed.bytes().all(|byte| byte.is_ascii_hexdigit()) && !typed.is_empty() && id.starts_with(typed)
}

/// At most five names that come close to what was typed, the closest first.
pub(crate) fn near<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let bound = (typed.chars().count() / 3).max(1);
    let mut hits: Vec<(usize, &str)> = names
        .filter_map(|name| {
            if name.len() > 255 {
                return None;
            }
            let distance = distance(typed, name);
            let part =
                typed.len() >= 2 && (name.contains(typed) || (name.len() >= 2 && typed.contains(name)));
            (distance <= bound || part).then_some((distance, name))
        })
        .collect();
    hits.sort_unstable();
    hits.dedup();
    hits.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

/// Least number of letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[(&str, &str)]) -> Vec<Known> {
        names
            .iter()
            .map(|&(name, id)| Known {
                name: name.into(),
                aliases: vec![format!("{name}-too")],
                id: id.into(),
            })
            .collect()
    }

    #[test]
    fn names_ids_and_beginnings_of_ids_are_understood() {
        let known = known(&[
            ("shop", "abcdef0123456789"),
            ("cart", "abcd000000000000"),
            ("abcd", "1111111111111111"),
            ("dead", "2222222222222222"),
        ]);
        for (typed, expected) in [
            ("shop", Meant::One(0)),
            ("cart-too", Meant::One(1)),
            ("abcdef0123456789", Meant::One(0)),
            ("abcde", Meant::One(0)),
            ("1", Meant::One(2)),
            // A name goes before the beginning of an id.
            ("abcd", Meant::One(2)),
            ("abc", Meant::Many(vec!["shop".into(), "cart".into()])),
            ("sho", Meant::None(vec!["shop".into()])),
            ("crat", Meant::None(vec![])),
            ("carts", Meant::None(vec!["cart".into()])),
            ("", Meant::None(vec![])),
            ("zzz", Meant::None(vec![])),
        ] {
            assert_eq!(find(typed, &known), expected, "{typed}");
        }
    }

    #[test]
    fn twins_are_told_apart_by_their_ids() {
        let known = known(&[("shop", "aaaaaaaaaaaaaaaaaaaa"), ("shop", "bbbbbbbbbbbbbbbbbbbb")]);
        assert_eq!(find("shop", &known), Meant::Many(vec!["aaaaaaaaaaaa".into(), "bbbbbbbbbbbb".into()]));
    }

    #[test]
    fn near_names_are_few_and_the_closest_first() {
        let names = ["shop-1", "shop-12", "shop-2", "shop-3", "shop-4", "shop-5", "shop-6", "other"];
        let near = near("shop-11", names.into_iter());
        assert_eq!(near.len(), 5);
        assert_eq!(near[0], "shop-1");
        assert!(!near.contains(&"other".to_owned()));
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("grün", "grun", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
