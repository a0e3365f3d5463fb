//! A command that somebody types at, on a terminal.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8Path;

use crate::common::wait_until;

/// Dropped, it is gone.
pub(crate) struct Terminal {
    child: Child,
    said: Arc<Mutex<String>>,
    /// The process of the command.
    pub(crate) pid: String,
}

impl Terminal {
    /// Runs a line of a shell on a terminal that `script` makes.
    pub(crate) fn start(mut script: Command, dir: &Utf8Path, line: &str) -> Self {
        let pid = dir.join("pid");
        let _ = std::fs::remove_file(&pid);
        let line = format!("stty cols 200; echo $$ > pid.new; mv pid.new pid; exec {line}");
        let mut child = script
            .args(["-qefc", &line, "/dev/null"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut stream = child.stdout.take().unwrap();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..n]).replace('\r', "");
                let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&text);
            }
        });
        wait_until("a process on a terminal", || pid.exists());
        let pid = std::fs::read_to_string(&pid).unwrap().trim().to_owned();
        Terminal { child, said, pid }
    }

    pub(crate) fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    pub(crate) fn hear(&mut self, text: &str) {
        let said = Arc::clone(&self.said);
        let child = &mut self.child;
        wait_until(text, || {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let over = child.try_wait().unwrap();
            assert!(
                over.is_none(),
                "it ended ({over:?}) without `{text}`: {said}"
            );
            said.contains(text)
        });
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Its exit code, once it ends.
    pub(crate) fn over(&mut self) -> Option<i32> {
        let mut ended = None;
        wait_until("the command ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
