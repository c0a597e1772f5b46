//! What the scripts of locks answer.

use redis::Value;

use super::super::read::array;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Answer, HolderStatus, Taken, too_many_waiters};
use crate::redis_conn::text;

/// A name as it is stored: who holds it, and how many wait.
pub(super) type Seen = (Vec<HolderStatus>, u64);

/// Reads the answer to an attempt.
pub(super) fn answer(reply: Value) -> Result<Answer> {
    match numbers(reply).as_slice() {
        &[1, fence, left_ms] => Ok(Answer::Granted { fence, left_ms }),
        &[0, ahead, retry_ms] => Ok(Answer::Busy { ahead, retry_ms }),
        [2] => Err(too_many_waiters()),
        _ => Err(unexpected()),
    }
}

/// Reads what became of tokens.
pub(super) fn taken(reply: Value) -> Result<Taken> {
    let &[allowed @ (0 | 1), remaining, retry_after_ms] = numbers(reply).as_slice() else {
        return Err(unexpected());
    };
    Ok(Taken {
        allowed: allowed == 1,
        remaining,
        retry_after_ms,
    })
}

/// Reads a count.
pub(super) fn count(reply: &Value) -> Result<u64> {
    number(reply).ok_or_else(unexpected)
}

/// Reads hold times; what is none is left out.
pub(super) fn hold_times(reply: Value) -> Vec<u64> {
    let times = array(reply);
    times
        .iter()
        .filter_map(|time| text(time)?.parse().ok())
        .collect()
}

/// Reads the look at a name; `None`: it is not in use.
pub(super) fn seen(reply: Value) -> Result<Option<Seen>> {
    let Ok([now, waiters, fields]) = <[Value; 3]>::try_from(array(reply)) else {
        return Err(unexpected());
    };
    let (now_ms, waiters) = (count(&now)?, count(&waiters)?);
    let fields = array(fields);
    let pairs = fields.as_chunks::<2>().0.iter();
    let mut holders: Vec<_> = pairs
        .filter_map(|[name, value]| holder(&text(name)?, &text(value)?, now_ms))
        .collect();
    holders.sort_by_key(|holder| holder.fence);
    let is_used = waiters > 0 || !holders.is_empty();
    Ok(is_used.then_some((holders, waiters)))
}

/// Reads a field of a lease, if it is a holder whose lease has not ended.
fn holder(name: &str, value: &str, now_ms: u64) -> Option<HolderStatus> {
    let owner = name.strip_prefix('h')?.to_owned();
    let mut numbers = value.split(' ').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (until_ms, fence, since_ms) = (next()?, next()?, next()?);
    (until_ms > now_ms).then(|| HolderStatus {
        owner,
        fence,
        held_ms: now_ms.saturating_sub(since_ms),
        left_ms: until_ms - now_ms,
    })
}

/// Returns the numbers of a list; what is none makes it another list.
fn numbers(reply: Value) -> Vec<u64> {
    array(reply).iter().map_while(number).collect()
}

fn number(reply: &Value) -> Option<u64> {
    match reply {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a script of locks answered something else",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().copied().map(Value::Int).collect())
    }

    fn bytes(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_read_and_junk_is_refused() {
        let granted = Answer::Granted {
            fence: 7,
            left_ms: 8,
        };
        assert_eq!(answer(list(&[1, 7, 8])).unwrap(), granted);
        let busy = Answer::Busy {
            ahead: 3,
            retry_ms: 4,
        };
        assert_eq!(answer(list(&[0, 3, 4])).unwrap(), busy);
        assert_eq!(
            answer(list(&[2])).unwrap_err().kind(),
            ErrorKind::Overloaded
        );
        for junk in [list(&[]), list(&[3, 1, 1]), list(&[1, -1, 5]), Value::Nil] {
            assert_eq!(answer(junk).unwrap_err().kind(), ErrorKind::Internal);
        }
        assert!(taken(list(&[1, 2, 0])).unwrap().allowed);
        assert!(taken(list(&[2, 2, 0])).is_err());
    }

    #[test]
    fn holders_are_those_whose_leases_last() {
        let fields = [
            "f",
            "9",
            "ha",
            "110 9 100",
            "hb",
            "120 8 90",
            "hc",
            "105 7 90",
        ];
        let fields = fields.iter().map(|text| bytes(text)).collect();
        let reply =
            |fields| Value::Array(vec![Value::Int(105), Value::Int(2), Value::Array(fields)]);
        let (holders, waiters) = seen(reply(fields)).unwrap().unwrap();
        assert_eq!(waiters, 2);
        let owners: Vec<_> = holders.iter().map(|holder| holder.owner.as_str()).collect();
        assert_eq!(owners, ["b", "a"]);
        assert_eq!((holders[0].held_ms, holders[0].left_ms), (15, 15));
        let idle = Value::Array(vec![Value::Int(1), Value::Int(0), Value::Array(vec![])]);
        assert_eq!(seen(idle).unwrap(), None);
        assert!(seen(list(&[1])).is_err());
    }
}
