//! Mount options: what the user gave, as the three ways of mounting want it.

use nix::mount::MsFlags;
use nix::unistd::{getegid, geteuid};

use crate::config::Config;
use crate::error::{Error, Result};

// include/uapi/linux/mount.h, MOUNT_ATTR_*: (name, negation, attribute, mount(2) flag)
const ATTRIBUTES: [(&str, &str, u32, MsFlags); 5] = [
    ("ro", "rw", 0x1, MsFlags::MS_RDONLY),
    ("nosuid", "suid", 0x2, MsFlags::MS_NOSUID),
    ("nodev", "dev", 0x4, MsFlags::MS_NODEV),
    ("noexec", "exec", 0x8, MsFlags::MS_NOEXEC),
    ("nodiratime", "diratime", 0x80, MsFlags::MS_NODIRATIME),
];
const NOATIME: u32 = 0x10;

/// Parsed options.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) source: String,
    pub(super) subtype: String,
    /// MOUNT_ATTR_* bits.
    pub(super) attributes: u32,
    /// The same for mount(2).
    pub(super) flags: MsFlags,
    /// Parameters of the superblock without a value.
    pub(super) switches: Vec<&'static str>,
    /// Parameters of the superblock with a value.
    pub(super) values: Vec<(&'static str, String)>,
    /// Everything as fusermount3 wants it.
    pub(super) words: Vec<String>,
}

impl Options {
    pub(super) fn parse(config: &Config) -> Result<Self> {
        let mut options = Self {
            source: config.name.clone(),
            subtype: config.name.clone(),
            attributes: 0,
            flags: MsFlags::empty(),
            switches: Vec::new(),
            values: Vec::new(),
            words: Vec::new(),
        };
        options.word("nosuid")?;
        options.word("nodev")?;
        if config.default_permissions {
            options.word("default_permissions")?;
        }
        if config.allow_other {
            options.word("allow_other")?;
        }
        let given = config.options.iter().flat_map(|list| list.split(','));
        for word in given.filter(|word| !word.is_empty()) {
            options.word(word)?;
        }
        options.values.extend([
            ("rootmode", "40000".to_owned()),
            ("user_id", geteuid().to_string()),
            ("group_id", getegid().to_string()),
        ]);
        Ok(options)
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if let Some((_, negation, attribute, flag)) =
            ATTRIBUTES.iter().find(|(name, negation, ..)| *name == word || *negation == word)
        {
            let on = word != *negation;
            self.attributes =
                if on { self.attributes | attribute } else { self.attributes & !attribute };
            self.flags.set(*flag, on);
            self.words.push(word.to_owned());
            return Ok(());
        }
        match word.split_once('=') {
            None if word == "noatime" => {
                self.attributes |= NOATIME;
                self.flags |= MsFlags::MS_NOATIME;
            }
            None if word == "allow_other" => self.switch("allow_other"),
            None if word == "default_permissions" => self.switch("default_permissions"),
            None if word == "sync" => {
                self.switch("sync");
                self.flags |= MsFlags::MS_SYNCHRONOUS;
            }
            None if word == "dirsync" => {
                self.switch("dirsync");
                self.flags |= MsFlags::MS_DIRSYNC;
            }
            Some(("max_read", value)) if value.parse().is_ok_and(|read: u32| read >= 4096) => {
                self.values.push(("max_read", value.to_owned()));
            }
            Some(("fsname", value)) if !value.is_empty() => value.clone_into(&mut self.source),
            Some(("subtype", value)) if !value.is_empty() => value.clone_into(&mut self.subtype),
            _ => {
                return Err(Error::Config(format!(
                    "--options: {word} is not understood; known are ro, rw, nosuid, suid, nodev, \
                     dev, noexec, exec, noatime, nodiratime, sync, dirsync, allow_other, \
                     default_permissions, max_read=BYTES (4096 or more), fsname=NAME, subtype=NAME"
                )));
            }
        }
        self.words.push(word.to_owned());
        Ok(())
    }

    fn switch(&mut self, name: &'static str) {
        if !self.switches.contains(&name) {
            self.switches.push(name);
        }
    }

    /// The data of mount(2), but for the descriptor.
    pub(super) fn data(&self) -> String {
        let values = self.values.iter().map(|(name, value)| format!("{name}={value}"));
        // sync and dirsync are flags there.
        let switches = self.switches.iter().filter(|name| !name.ends_with("sync"));
        values.chain(switches.map(|name| (*name).to_owned())).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Options> {
        Options::parse(&Config::new("/x").options(vec![list.to_owned()]))
    }

    #[test]
    fn safe_unless_told_otherwise() {
        assert_eq!(parse("").unwrap().attributes, 0x2 | 0x4);
        assert_eq!(parse("dev,suid,ro").unwrap().attributes, 0x1);
        assert_eq!(parse("dev").unwrap().flags, MsFlags::MS_NOSUID);
    }

    #[test]
    fn unknown_words_are_named() {
        for bad in ["frobnicate", "max_read=1", "max_read=x", "fsname="] {
            let Err(Error::Config(text)) = parse(bad) else { panic!("{bad} was taken") };
            assert!(text.contains(bad), "{text}");
        }
    }

    #[test]
    fn mount_2_gets_switches_once_and_no_flags() {
        let config =
            Config::new("/x").allow_other(true).options(vec!["allow_other,sync".to_owned()]);
        let options = Options::parse(&config).unwrap();
        assert!(options.data().ends_with(",allow_other"), "{}", options.data());
        assert!(options.flags.contains(MsFlags::MS_SYNCHRONOUS));
    }
}
