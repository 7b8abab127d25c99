//! Requests as they are sent, one a line. A line is judged as the edge would judge it, so that what is
//! wrong with a file is said with its line and not by thousands of refusals.

use backstop_contract::Timestamp;
use backstop_contract::validity::{Terms, check};
use bytes::Bytes;

use super::{Fault, Row, fault};

/// The longest request that an edge can be set to take.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A line as the request that it is. It must say when it happened if it is `timed`; if not, it is not
/// asked, since requests that are due by rate alone may come in any order.
pub fn read(line: &[u8], timed: bool) -> Result<Row, Fault> {
    if line.len() > BODY_BYTES_MAX {
        let wrong = format!("the request is over {BODY_BYTES_MAX} bytes");
        return Err(fault(wrong, "leave out what no policy reads"));
    }
    // A replay asks with a test key; which ids and policies there are is the running system's to say.
    let terms =
        Terms { now: Timestamp::default(), test: true, numeric_ids: true, policies: &|_| true };
    let request = check(line, &terms).map_err(|problem| {
        let wrong = match problem.pointer {
            Some(pointer) => format!("{pointer}: {}", problem.detail),
            None => problem.detail,
        };
        fault(wrong, problem.remedy)
    })?;
    let at = request.at.map(|at| at.timestamp).filter(|_| timed);
    if timed && at.is_none() {
        let right = "give \"at\", such as \"2018-08-01T00:00:31Z\", or replay by --rate alone";
        return Err(fault("the request does not say when it happened", right));
    }
    Ok(Row { id: request.id, at, body: Bytes::copy_from_slice(line), later: None })
}
