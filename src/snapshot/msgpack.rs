//! MessagePack as far as skipping over a value needs it.
//!
//! Nothing here builds values, and nothing is ever allocated by a length or count that the input declares.

/// How deep arrays and maps may be nested. Nomad's deepest records have about a dozen levels.
pub const DEPTH_MAX: usize = 128;

/// What the first byte of a value says about the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A leaf with this many more bytes.
    Fixed(u8),
    /// A leaf with a length field of `width` bytes, then `extra` bytes, then as many bytes as the length says.
    Sized {
        /// Bytes of the length field: 1, 2 or 4.
        width: u8,
        /// Bytes after the length field that it does not count: the type of an ext.
        extra: u8,
    },
    /// An array of this many values.
    Array(u8),
    /// A map of this many entries.
    Map(u8),
    /// An array whose count is in a field of this many bytes.
    ArrayCounted(u8),
    /// A map whose count is in a field of this many bytes.
    MapCounted(u8),
    /// 0xc1, which MessagePack never uses.
    Never,
}

static FORMS: [Form; 256] = forms();

const fn forms() -> [Form; 256] {
    let mut forms = [Form::Never; 256];
    let mut byte = 0;
    while byte < 256 {
        forms[byte] = form_of(byte as u8);
        byte += 1;
    }
    forms
}

const fn form_of(byte: u8) -> Form {
    match byte {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Form::Fixed(0),
        0x80..=0x8f => Form::Map(byte & 0x0f),
        0x90..=0x9f => Form::Array(byte & 0x0f),
        0xa0..=0xbf => Form::Fixed(byte & 0x1f),
        0xc1 => Form::Never,
        0xc4 | 0xd9 => Form::Sized { width: 1, extra: 0 },
        0xc5 | 0xda => Form::Sized { width: 2, extra: 0 },
        0xc6 | 0xdb => Form::Sized { width: 4, extra: 0 },
        0xc7 => Form::Sized { width: 1, extra: 1 },
        0xc8 => Form::Sized { width: 2, extra: 1 },
        0xc9 => Form::Sized { width: 4, extra: 1 },
        0xcc | 0xd0 => Form::Fixed(1),
        0xcd | 0xd1 => Form::Fixed(2),
        0xca | 0xce | 0xd2 => Form::Fixed(4),
        0xcb | 0xcf | 0xd3 => Form::Fixed(8),
        0xd4 => Form::Fixed(2),
        0xd5 => Form::Fixed(3),
        0xd6 => Form::Fixed(5),
        0xd7 => Form::Fixed(9),
        0xd8 => Form::Fixed(17),
        0xdc => Form::ArrayCounted(2),
        0xdd => Form::ArrayCounted(4),
        0xde => Form::MapCounted(2),
        0xdf => Form::MapCounted(4),
    }
}

/// The form that a value's first byte announces.
#[inline]
pub fn form(first: u8) -> Form {
    FORMS[usize::from(first)]
}

/// A value that cannot be: 0xc1, or nesting beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The byte that MessagePack never uses: most likely the input is not MessagePack at all.
    #[error("byte 0xc1 begins no msgpack value")]
    Never,
    /// More than [`DEPTH_MAX`] open arrays and maps.
    #[error("msgpack nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// Finds the end of one value after another; the input may come in slices of any length.
///
/// Where and whether an error occurs does not depend on the slicing.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Values that are still to come, for each open array or map.
    open: Vec<u64>,
    /// Payload bytes of the current leaf that are still to come.
    skip_bytes: u64,
    /// The length or count field that is being read.
    field: Option<Field>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    form: Form,
    left_bytes: u8,
    value: u64,
}

impl Scanner {
    /// A scanner that expects the first byte of a value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans on. `Some(n)`: the value ends after `n` bytes of this slice, and the scanner expects the next value.
    /// `None`: the slice belongs to the value as a whole, which goes on.
    ///
    /// # Errors
    /// [`Malformed`]; the scanner is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        loop {
            let left = bytes.len() - at;
            if self.skip_bytes > 0 {
                let step = usize::try_from(self.skip_bytes).map_or(left, |skip| skip.min(left));
                at += step;
                self.skip_bytes -= step as u64;
                if self.skip_bytes > 0 {
                    return Ok(None);
                }
                if self.value_ended() {
                    return Ok(Some(at));
                }
                continue;
            }
            if self.field.is_none() {
                at = self.short_leaves(bytes, at);
            }
            let Some(&byte) = bytes.get(at) else {
                return Ok(None);
            };
            at += 1;
            let ended = match self.field.take() {
                None => self.first_byte(byte)?,
                Some(field) => self.field_byte(field, byte)?,
            };
            if ended {
                return Ok(Some(at));
            }
        }
    }

    /// Skips leaves without a length field inside the innermost container, but not its last value.
    #[inline]
    fn short_leaves(&mut self, bytes: &[u8], mut at: usize) -> usize {
        let Some(values) = self.open.last_mut() else {
            return at;
        };
        let mut left = *values;
        while left > 1
            && let Some(&byte) = bytes.get(at)
            && let Form::Fixed(len) = form(byte)
            && let end = at + 1 + usize::from(len)
            && end <= bytes.len()
        {
            at = end;
            left -= 1;
        }
        *values = left;
        at
    }

    /// Takes the first byte of a value; true if the outermost value has ended with it.
    #[inline]
    fn first_byte(&mut self, byte: u8) -> Result<bool, Malformed> {
        let form = form(byte);
        match form {
            Form::Fixed(0) => Ok(self.value_ended()),
            Form::Fixed(len) => {
                self.skip_bytes = u64::from(len);
                Ok(false)
            }
            Form::Array(count) => self.open(u64::from(count)),
            Form::Map(count) => self.open(2 * u64::from(count)),
            Form::Sized { width, .. } | Form::ArrayCounted(width) | Form::MapCounted(width) => {
                self.field = Some(Field { form, left_bytes: width, value: 0 });
                Ok(false)
            }
            Form::Never => Err(Malformed::Never),
        }
    }

    /// Takes one byte of a length or count field.
    fn field_byte(&mut self, mut field: Field, byte: u8) -> Result<bool, Malformed> {
        field.value = field.value << 8 | u64::from(byte);
        field.left_bytes -= 1;
        if field.left_bytes > 0 {
            self.field = Some(field);
            return Ok(false);
        }
        match field.form {
            Form::ArrayCounted(_) => self.open(field.value),
            Form::MapCounted(_) => self.open(2 * field.value),
            Form::Sized { extra, .. } => {
                self.skip_bytes = field.value + u64::from(extra);
                Ok(self.skip_bytes == 0 && self.value_ended())
            }
            Form::Fixed(_) | Form::Array(_) | Form::Map(_) | Form::Never => Err(Malformed::Never),
        }
    }

    fn open(&mut self, values: u64) -> Result<bool, Malformed> {
        if values == 0 {
            return Ok(self.value_ended());
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Malformed::TooDeep);
        }
        self.open.push(values);
        Ok(false)
    }

    /// Counts a finished value in what is open around it; true if nothing is.
    #[inline]
    fn value_ended(&mut self) -> bool {
        while let Some(values) = self.open.last_mut() {
            *values -= 1;
            if *values > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}
