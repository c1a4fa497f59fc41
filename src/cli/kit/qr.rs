//! QR codes as SVG.

use qrcodegen::{QrCode, QrCodeEcc};
use std::fmt::Write;
use zeroize::Zeroizing;

/// Light modules around the code that readers ask for (ISO/IEC 18004, 5.3.8).
const QUIET_MODULES: i32 = 4;

/// The text as a QR code, of medium error correction (15 %), or higher where it costs nothing. `None` if it is too long
/// (2331 bytes).
pub(super) fn svg(text: &str, label: &str) -> Option<Zeroizing<String>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let size = code.size();
    let side = size + 2 * QUIET_MODULES;
    let modules = usize::try_from(size).unwrap_or(0).pow(2);
    // A dark module takes at most 14 characters, and about half of them are dark.
    let mut svg = Zeroizing::new(String::with_capacity(512 + 14 * modules));
    let head = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" role="img" aria-label="{label}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path fill="#000" d=""##
    );
    svg.push_str(&head);
    for y in 0..size {
        for x in (0..size).filter(|x| code.get_module(*x, y)) {
            // Writing to a String cannot fail.
            let _ = write!(svg, "M{} {}h1v1h-1z", x + QUIET_MODULES, y + QUIET_MODULES);
        }
    }
    svg.push_str(r#""/></svg>"#);
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a code back from the squares of its path.
    fn decoded(svg: &str) -> String {
        const SCALE: usize = 4;
        let side: usize = svg.split(r#"viewBox="0 0 "#).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let path = svg.rsplit(r#"d=""#).next().unwrap();
        let mut dark = vec![false; side * side];
        for square in path.split('M').skip(1) {
            let (x, y) = square.split('h').next().unwrap().split_once(' ').unwrap();
            dark[y.parse::<usize>().unwrap() * side + x.parse::<usize>().unwrap()] = true;
        }
        let pixel = |x: usize, y: usize| if dark[y / SCALE * side + x / SCALE] { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side * SCALE, side * SCALE, pixel);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn what_does_not_fit_is_no_code() {
        assert!(svg(&"a".repeat(2331), "x").is_some());
        assert!(svg(&"a".repeat(2332), "x").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_reader_gets_the_text_back(text in "[ -~\n]{1,700}") {
            prop_assert_eq!(decoded(&svg(&text, "x").unwrap()), text);
        }
    }
}
