//! Takes values from the bytes of an input; past its end all are zero.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Up to `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn number(&mut self, n: usize) -> u64 {
        let mut word = [0; 8];
        let taken = self.bytes(n);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Two bytes.
    pub fn half(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// Eight bytes.
    pub fn word(&mut self) -> u64 {
        self.number(8)
    }

    /// A number that is small more often than not: its first byte says how many follow.
    pub fn some(&mut self) -> u64 {
        match self.byte() {
            n @ 0..=239 => u64::from(n),
            n => self.number(usize::from(n - 239).min(8)),
        }
    }

    /// One of several things.
    pub fn pick<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[usize::from(self.byte()) % things.len()]
    }

    /// A text up to a zero byte.
    pub fn text(&mut self) -> String {
        let end = self.0.iter().position(|b| *b == 0);
        let text = self.bytes(end.unwrap_or(self.0.len()));
        self.bytes(1);
        String::from_utf8_lossy(text).into_owned()
    }
}
