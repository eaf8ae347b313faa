//! The client program: a process that is asked over its standard input, and answers over its standard output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use seshat_conformance::protocol::{self, Request, Response};
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest wait for the end of a program whose input has ended.
const END: Duration = Duration::from_secs(30);

/// Where libraries look for a proxy: a client takes none from the environment.
const PROXIES: [&str; 3] = ["grpc_proxy", "http_proxy", "https_proxy"];
/// The port of the discard service.
const NO_PROXY_LISTENS: &str = "http://127.0.0.1:9";

/// How the program is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The file.
    pub(crate) path: PathBuf,
    /// `Response` of the protocol.
    pub(crate) response: MessageDescriptor,
}

/// A running program. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    requests: mpsc::UnboundedSender<Request>,
    waiting: Arc<Waiting>,
    start: Start,
    last_id: u64,
}

/// The requests without a response.
#[derive(Debug, Default)]
struct Waiting(Mutex<Outstanding>);

#[derive(Debug, Default)]
struct Outstanding {
    requests: BTreeMap<u64, oneshot::Sender<Response>>,
    /// Why there will be no more responses.
    ended: Option<String>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: &str) {
        let mut outstanding = self.lock();
        outstanding.requests.clear();
        outstanding.ended.get_or_insert_with(|| why.to_owned());
    }
}

/// The response to a request that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The id of the request.
    pub(crate) id: u64,
    response: oneshot::Receiver<Response>,
    waiting: Arc<Waiting>,
    descriptor: MessageDescriptor,
}

impl Pending {
    /// Waits for the response.
    ///
    /// # Errors
    ///
    /// The program has ended, or has broken the protocol.
    pub(crate) async fn response(&mut self) -> Result<DynamicMessage> {
        let Ok(response) = (&mut self.response).await else {
            let why = self.waiting.lock().ended.clone();
            return Err(anyhow!(
                why.unwrap_or_else(|| "the program has ended".to_owned())
            ));
        };
        let mut message = DynamicMessage::new(self.descriptor.clone());
        message.transcode_from(&response)?;
        Ok(message)
    }
}

impl Program {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn start(start: &Start) -> Result<Self> {
        let mut child = Command::new(&start.path)
            .envs(PROXIES.map(|name| (name, NO_PROXY_LISTENS)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", start.path.display()))?;
        let input = child.stdin.take().context("a standard input")?;
        let output = child.stdout.take().context("a standard output")?;
        let (requests, to_send) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        tokio::spawn(send(input, to_send));
        tokio::spawn(receive(output, Arc::clone(&waiting)));
        Ok(Self {
            child,
            requests,
            waiting,
            start: start.clone(),
            last_id: 0,
        })
    }

    /// Sends a request. Its id is given here.
    pub(crate) fn ask(&mut self, request: &DynamicMessage) -> Result<Pending> {
        self.last_id += 1;
        let id = self.last_id;
        let request: Request = request.transcode_to()?;
        let (answer, response) = oneshot::channel();
        let mut outstanding = self.waiting.lock();
        if outstanding.ended.is_none() {
            outstanding.requests.insert(id, answer);
        }
        drop(outstanding);
        // If the program has ended, there will be no response.
        let _ = self.requests.send(Request { id, ..request });
        Ok(Pending {
            id,
            response,
            waiting: Arc::clone(&self.waiting),
            descriptor: self.start.response.clone(),
        })
    }

    /// Whether the program has ended, or has broken the protocol.
    pub(crate) fn has_ended(&self) -> bool {
        self.waiting.lock().ended.is_some()
    }

    /// Ends the input of the program, and waits until it has ended as the protocol says.
    ///
    /// # Errors
    ///
    /// It does not end, or not with exit code 0.
    pub(crate) async fn end(self) -> Result<()> {
        let Self {
            mut child,
            requests,
            ..
        } = self;
        drop(requests);
        let ended = timeout(END, child.wait()).await;
        let status =
            ended.map_err(|_| anyhow!("the program goes on when its input has ended"))??;
        match status.success() {
            true => Ok(()),
            false => Err(anyhow!(
                "the program ended with {status}, when its input had ended"
            )),
        }
    }
}

async fn send(mut input: ChildStdin, mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = requests.recv().await {
        // The reader of its output tells that the program has ended.
        if protocol::write(&mut input, &request).await.is_err() {
            return;
        }
    }
}

async fn receive(output: ChildStdout, waiting: Arc<Waiting>) {
    let mut output = BufReader::new(output);
    let why = loop {
        let response: Response = match protocol::read(&mut output).await {
            Ok(Some(response)) => response,
            Ok(None) => break "the program has ended".to_owned(),
            Err(error) => break format!("the output of the program is no response: {error}"),
        };
        let asked = waiting.lock().requests.remove(&response.id);
        match asked {
            // The case may have ended meanwhile.
            Some(asked) => drop(asked.send(response)),
            None => break format!("a second response, or one to no request: {}", response.id),
        }
    };
    waiting.end(&why);
}

/// The path of a program, which the name of a file in this directory means, too.
pub(crate) fn path_of(program: &Path) -> PathBuf {
    match program.components().count() {
        1 => Path::new(".").join(program),
        _ => program.to_owned(),
    }
}
