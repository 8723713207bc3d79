//! Whom the helper listens to: root, and the user or group of the agent.

use std::os::fd::AsFd;

use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User};

/// Who may give orders besides root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// A user.
    pub user: Option<Uid>,
    /// Who runs under this group.
    pub group: Option<Gid>,
}

/// Why a caller is not listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// Nobody can be asked who is at the other end.
    #[error("the other end cannot be asked who it is: {0}")]
    Unknown(nix::Error),
    /// It is somebody else.
    #[error("user {user} with group {group} may not give orders")]
    Stranger {
        /// The user.
        user: u32,
        /// The group.
        group: u32,
    },
    /// There is no such user or group.
    #[error("{kind} {name} cannot be looked up: {detail}")]
    Name {
        /// Which of both.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        detail: String,
    },
}

impl Allowed {
    /// Looks up the names of a user and a group; one that does not exist lets nobody in.
    pub fn named(user: &str, group: &str) -> Result<Self, CallerError> {
        let failed = |kind, name: &str| {
            let name = name.to_owned();
            move |error: nix::Error| CallerError::Name { kind, name, detail: error.to_string() }
        };
        let user = User::from_name(user).map_err(failed("user", user))?.map(|user| user.uid);
        let group = Group::from_name(group).map_err(failed("group", group))?.map(|group| group.gid);
        Ok(Self { user, group })
    }

    /// Checks who is at the other end of a Unix socket.
    pub fn check(&self, connection: &impl AsFd) -> Result<(), CallerError> {
        let credentials = getsockopt(connection, PeerCredentials).map_err(CallerError::Unknown)?;
        self.admits(&credentials)
    }

    fn admits(&self, credentials: &UnixCredentials) -> Result<(), CallerError> {
        let (user, group) = (Uid::from_raw(credentials.uid()), Gid::from_raw(credentials.gid()));
        if user.is_root() || self.user == Some(user) || self.group == Some(group) {
            return Ok(());
        }
        Err(CallerError::Stranger { user: user.as_raw(), group: group.as_raw() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agent_are_listened_to_and_nobody_else() {
        let allowed = Allowed { user: Some(Uid::from_raw(997)), group: Some(Gid::from_raw(996)) };
        let nobody = Allowed::default();
        for (user, group, by_agent, by_nobody) in [
            (0, 0, true, true),
            (997, 5, true, false),
            (1000, 996, true, false),
            (1000, 1000, false, false),
            (996, 997, false, false),
        ] {
            let credentials = UnixCredentials::from(nix::libc::ucred { pid: 1, uid: user, gid: group });
            assert_eq!(allowed.admits(&credentials).is_ok(), by_agent, "{user}:{group}");
            assert_eq!(nobody.admits(&credentials).is_ok(), by_nobody, "{user}:{group}");
        }
    }
}
