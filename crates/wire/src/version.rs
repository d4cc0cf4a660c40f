//! Versions of the protocol and how two of them meet.

use crate::{Code, Failure};

/// The protocol this build speaks.
pub const PROTOCOL: u32 = 1;

/// The lowest protocol this build still accepts from the other side: the one before its own.
pub const PROTOCOL_MIN: u32 = 1;

/// The protocol two sides have in common: the highest that both speak.
///
/// Each side is `(speaks, accepts from)`.
///
/// # Errors
/// [`Code::VersionMismatch`] with the side that has to be renewed in its hint.
pub fn meet(client: (u32, u32), agent: (u32, u32)) -> Result<u32, Failure> {
    let common = client.0.min(agent.0);
    if common >= client.1 && common >= agent.1 {
        return Ok(common);
    }
    let older = if client.0 < agent.0 { "command" } else { "agent" };
    Err(Failure::new(
        Code::VersionMismatch,
        format!("client speaks protocol {} to {}, agent {} to {}", client.1, client.0, agent.1, agent.0),
    )
    .hint(format!("renew the {older}, which is the older side")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_meet_at_the_highest_common_version() {
        for (client, agent, expected) in [
            ((1, 1), (1, 1), Some(1)),
            ((3, 2), (2, 1), Some(2)),
            ((2, 1), (3, 2), Some(2)),
            ((4, 3), (2, 1), None),
            ((2, 1), (4, 3), None),
        ] {
            assert_eq!(meet(client, agent).ok(), expected, "{client:?} and {agent:?}");
        }
    }

    #[test]
    fn the_older_side_is_named() {
        let text = meet((1, 1), (9, 8)).unwrap_err().hints[0].text.clone();
        assert!(text.contains("command"), "{text}");
        let text = meet((9, 8), (1, 1)).unwrap_err().hints[0].text.clone();
        assert!(text.contains("agent"), "{text}");
    }
}
