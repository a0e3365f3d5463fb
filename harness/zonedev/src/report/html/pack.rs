//! The data of the cells: JSON, deflated, in base64. A browser unpacks it by itself
//! (DecompressionStream), also in a file that was opened from disk.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::escape::shown;

/// Packs data for the script, every text in it escaped.
pub(super) fn pack(data: &impl Serialize) -> Result<String, std::io::Error> {
    let json = serde_json::to_vec(&shown(serde_json::to_value(data)?))?;
    let mut out = DeflateEncoder::new(Vec::new(), Compression::best());
    out.write_all(&json)?;
    Ok(STANDARD.encode(out.finish()?))
}

/// JSON that may stand in a script element as it is: nothing in it can end the element.
pub(super) fn inline(data: &impl Serialize) -> Result<String, std::io::Error> {
    let json = shown(serde_json::to_value(data)?).to_string();
    Ok(json.replace('<', "\\u003c"))
}

/// The source expression of a Content-Security-Policy for one inline script or style.
pub(super) fn policy_hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_comes_back_escaped() {
        let packed = pack(&["</script>", "a\u{1b}[2J\nb"]).unwrap();
        let bytes = STANDARD.decode(packed).unwrap();
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, r#"["</script>","a\\u{1b}[2J\nb"]"#);
    }

    #[test]
    fn inline_data_ends_no_element() {
        let text = inline(&["</script><!--", "]]>"]).unwrap();
        assert!(!text.contains('<'), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, ["</script><!--", "]]>"]);
    }

    #[test]
    fn the_hash_is_the_one_that_browsers_make() {
        // The example of the Content Security Policy specification.
        assert_eq!(
            policy_hash("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }
}
