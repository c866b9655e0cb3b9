//! One body, compiled once per level.

/// Compiles a body once per level, so that auto-vectorisation can use what the level has. `pub fn name, name_at(..)`
/// defines a kernel and its version with an explicit level; `pub(crate) fn name(..)` only the latter.
///
/// An architecture whose levels have more than every CPU of its kind adds a function with these features and an arm.
macro_rules! levels {
    ($($(#[$doc:meta])* pub fn $name:ident, $at:ident $(<$($g:ident),*>)? ($($a:ident: $t:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name$(<$($g: crate::ring::RingWord),*>)?($($a: $t),*) {
            $at(crate::level::level(), $($a),*)
        }

        levels! {
            #[doc(hidden)]
            pub fn $at $(<$($g),*>)? ($($a: $t),*) $body
        }
    )*};

    ($($(#[$doc:meta])* $vis:vis fn $at:ident $(<$($g:ident),*>)? ($($a:ident: $t:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        $vis fn $at$(<$($g: crate::ring::RingWord),*>)?(level: crate::level::Level, $($a: $t),*) {
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
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `checked` has made sure that the CPU has these features.
                crate::level::Level::Aesni | crate::level::Level::Vaes256 => unsafe { avx2($($a),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                crate::level::Level::Avx512 => unsafe { avx512($($a),*) },
                _ => body($($a),*),
            }
        }
    )*};
}
