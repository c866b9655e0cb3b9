//! Which instruction sets the kernels use.

use std::sync::OnceLock;

/// Sets of CPU features that kernels are written for; each includes those before it. A CPU has those of its architecture
/// only.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No intrinsics.
    Portable,
    /// AES-NI, PCLMUL, AVX2, FMA, BMI2.
    Aesni,
    /// With VAES on 256-bit registers.
    Vaes256,
    /// AVX-512 F/BW/DQ/VL/VBMI/VBMI2/VNNI, VAES and GFNI.
    Avx512,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Aesni, Level::Vaes256, Level::Avx512];

    /// The name that `SIRNN_SIMD` uses.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Aesni => "aesni",
            Level::Vaes256 => "vaes256",
            Level::Avx512 => "avx512",
        }
    }

    /// The level itself if this CPU has it; panics otherwise. Every dispatch to a `target_feature` function goes
    /// through here, which is what makes the call sound.
    #[inline]
    pub(crate) fn checked(self) -> Self {
        assert!(self <= detected(), "this CPU does not have {}", self.name());
        self
    }
}

impl std::str::FromStr for Level {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Level::ALL.into_iter().find(|l| l.name() == s).ok_or(())
    }
}

/// The highest level that this CPU has.
#[inline]
pub fn detected() -> Level {
    static DETECTED: OnceLock<Level> = OnceLock::new();
    *DETECTED.get_or_init(crate::arch::native::detect)
}

struct Choice {
    level: Level,
    note: Option<String>,
}

fn choice() -> &'static Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    CHOICE.get_or_init(|| choose(std::env::var("SIRNN_SIMD").ok().as_deref(), detected()))
}

fn choose(wish: Option<&str>, detected: Level) -> Choice {
    let Some(wish) = wish else { return Choice { level: detected, note: None } };
    match wish.parse::<Level>() {
        Ok(l) if l <= detected => Choice {
            level: l,
            note: (l < detected).then(|| format!("SIRNN_SIMD lowers {} to {wish}", detected.name())),
        },
        Ok(_) => Choice {
            level: detected,
            note: Some(format!("SIRNN_SIMD={wish} ignored: this CPU has {} at most", detected.name())),
        },
        Err(()) => Choice {
            level: detected,
            note: Some(format!("SIRNN_SIMD={wish} ignored: expected portable, aesni, vaes256 or avx512")),
        },
    }
}

/// The level that kernels use: the detected one unless the environment variable `SIRNN_SIMD` lowers it.
#[inline]
pub fn level() -> Level {
    choice().level
}

/// What `SIRNN_SIMD` did, if it is set and did not simply name the detected level.
pub fn override_note() -> Option<String> {
    choice().note.clone()
}

/// All levels up to [`level`], lowest first.
pub fn available() -> Vec<Level> {
    Level::ALL.into_iter().filter(|&l| l <= level()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for l in Level::ALL {
            assert_eq!(l.name().parse(), Ok(l));
        }
        assert_eq!("neon".parse::<Level>(), Err(()));
    }

    #[test]
    fn environment_only_lowers() {
        for have in Level::ALL {
            assert_eq!(choose(None, have).level, have);
            assert!(choose(None, have).note.is_none());
            for wish in Level::ALL {
                let c = choose(Some(wish.name()), have);
                assert_eq!(c.level, wish.min(have));
                assert_eq!(c.note.is_none(), wish == have);
            }
            let c = choose(Some("fast"), have);
            assert_eq!(c.level, have);
            assert!(c.note.unwrap().contains("fast"));
        }
    }
}
