//! Locks and sessions as their clients know them: one holder at a time, under ascending tokens.

use std::collections::BTreeMap;

use super::record::Moment;

/// What a client was told between two moments, and cannot be true in one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    pub start: Moment,
    pub end: Moment,
    pub what: String,
}

/// What a client knows of a lock that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    pub name: String,
    pub token: u64,
    /// Before the lock was asked for.
    pub asked: Moment,
    /// The first and the last moment at which the client was sure that it holds the lock. `None`: it never was.
    pub sure: Option<(Moment, Moment)>,
    /// When the client was told that a write which needs the lock had come too late.
    pub refused: Option<Moment>,
}

impl Tenure {
    /// The last moment at which the lock surely had this token or none.
    fn last(&self) -> Moment {
        self.sure.map_or(self.asked, |(_, last)| last)
    }
}

/// Whether all of these can be true, or why not: no two clients were sure of a lock at the same time, a later holder
/// has a higher token, and a client that was refused was sure no more.
pub fn check(tenures: &[Tenure]) -> Result<(), String> {
    let mut names: BTreeMap<&str, Vec<&Tenure>> = BTreeMap::new();
    for tenure in tenures {
        names.entry(&tenure.name).or_default().push(tenure);
        if let (Some((_, last)), Some(refused)) = (tenure.sure, tenure.refused)
            && refused < last
        {
            return Err(format!("refused, and sure of it later: {tenure:?}"));
        }
    }
    for mut tenures in names.into_values() {
        tenures.sort_by_key(|it| it.token);
        let mut latest: Option<&Tenure> = None;
        for next in tenures {
            if let Some(before) = latest {
                follows(before, next)?;
            }
            latest = Some(match latest {
                Some(before) if before.last() > next.last() => before,
                _ => next,
            });
        }
    }
    Ok(())
}

/// Whether `next`, which has a higher token or the same, can have followed `before`.
fn follows(before: &Tenure, next: &Tenure) -> Result<(), String> {
    if before.token == next.token {
        return Err(format!("one token for {before:?} and {next:?}"));
    }
    match next.sure {
        Some((first, _)) if first < before.last() => Err(format!(
            "a holder with a lower token is not over: {before:?}, {next:?}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Moment {
        Moment {
            number,
            ..Moment::default()
        }
    }

    fn tenure(token: u64, asked: u64, sure: Option<(u64, u64)>) -> Tenure {
        Tenure {
            name: "a lock".to_owned(),
            token,
            asked: at(asked),
            sure: sure.map(|(first, last)| (at(first), at(last))),
            refused: None,
        }
    }

    #[test]
    fn one_client_holds_a_lock_at_a_time() {
        let first = tenure(7, 1, Some((2, 5)));
        assert_eq!(check(&[tenure(8, 3, Some((6, 9))), first.clone()]), Ok(()));
        let at_once = tenure(8, 3, Some((4, 9)));
        assert!(check(&[first.clone(), at_once.clone()]).is_err());
        // One between them, of which no client was sure.
        let between = tenure(8, 3, None);
        let at_once_as_well = Tenure {
            token: 9,
            ..at_once.clone()
        };
        assert!(check(&[first.clone(), between, at_once_as_well]).is_err());
        let elsewhere = Tenure {
            name: "another".to_owned(),
            ..at_once
        };
        assert_eq!(check(&[first, elsewhere]), Ok(()));
    }

    #[test]
    fn tokens_ascend_and_are_given_once() {
        let first = tenure(7, 1, Some((2, 3)));
        for sure in [Some((5, 6)), None] {
            assert!(check(&[first.clone(), tenure(6, 4, sure)]).is_err());
        }
        assert!(check(&[first.clone(), tenure(7, 4, None)]).is_err());
        assert_eq!(check(&[first, tenure(8, 1, None)]), Ok(()));
    }

    #[test]
    fn a_client_that_was_refused_is_sure_no_more() {
        let refused = |moment| Tenure {
            refused: Some(at(moment)),
            ..tenure(7, 1, Some((2, 5)))
        };
        assert_eq!(check(&[refused(6)]), Ok(()));
        assert!(check(&[refused(4)]).is_err());
    }
}
