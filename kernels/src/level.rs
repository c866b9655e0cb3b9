//! Which instruction sets the kernels use.

use std::sync::OnceLock;

/// Sets of CPU features that kernels are written for; each includes those before it.
// A NEON level (aarch64 with `aes`) would go next to these, behind the same `Portable` base.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No intrinsics.
    Portable,
    /// AES-NI, PCLMUL, AVX2, BMI2.
    Aesni,
    /// With VAES on 256-bit registers.
    Vaes256,
    /// AVX-512 F/BW/DQ/VL/VBMI/VBMI2, VAES and GFNI.
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
    *DETECTED.get_or_init(detect)
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    macro_rules! has {
        ($($f:tt),*) => { true $(&& std::arch::is_x86_feature_detected!($f))* };
    }
    if !has!("aes", "pclmulqdq", "sse4.2", "popcnt", "avx", "avx2", "bmi1", "bmi2", "lzcnt") {
        Level::Portable
    } else if !has!("vaes") {
        Level::Aesni
    } else if !has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2", "gfni") {
        Level::Vaes256
    } else {
        Level::Avx512
    }
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

/// Defines `$name` and `$at`, a version with an explicit level, from one body that is compiled once per level, so
/// that auto-vectorisation can use what the level has.
macro_rules! levels {
    ($($(#[$doc:meta])* pub fn $name:ident, $at:ident $(<$($g:ident),*>)? ($($a:ident: $t:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name$(<$($g: crate::ring::RingWord),*>)?($($a: $t),*) {
            $at(crate::level::level(), $($a),*)
        }

        #[doc(hidden)]
        pub fn $at$(<$($g: crate::ring::RingWord),*>)?(level: crate::level::Level, $($a: $t),*) {
            #[inline(always)]
            fn body$(<$($g: crate::ring::RingWord),*>)?($($a: $t),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2$(<$($g: crate::ring::RingWord),*>)?($($a: $t),*) {
                body($($a),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
            fn avx512$(<$($g: crate::ring::RingWord),*>)?($($a: $t),*) {
                body($($a),*)
            }

            match level.checked() {
                crate::level::Level::Portable => body($($a),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `checked` has made sure that the CPU has these features.
                crate::level::Level::Aesni | crate::level::Level::Vaes256 => unsafe { avx2($($a),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                crate::level::Level::Avx512 => unsafe { avx512($($a),*) },
                #[cfg(not(target_arch = "x86_64"))]
                _ => unreachable!(),
            }
        }
    )*};
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
