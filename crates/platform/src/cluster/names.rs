//! Names of a cluster's objects, for the completion of a command line: names alone, since it waits.

use pepo_wire::{
    Failure,
    name::{Kind, TargetName},
};
use serde_json::Value;

use super::{
    client::{Cluster, Joined},
    find,
};
use crate::{Options, PlatformError};

/// Which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Of the namespace's objects of this kind.
    Of(Kind),
    /// Of the containers of a pod, or of what makes pods.
    Containers(TargetName),
    /// Of namespaces.
    Namespaces,
    /// Of the kubeconfig's contexts.
    Contexts,
}

impl Names {
    /// The names that the cluster which is meant has now, or the kubeconfig.
    ///
    /// # Errors
    /// [`pepo_wire::Code::NoEngine`] without a kubeconfig, [`pepo_wire::Code::ClusterDenied`], or why the API server did not answer.
    pub async fn ask(&self, options: &Options) -> Result<Vec<String>, Failure> {
        let cluster = Cluster::new(&options.cluster, &options.environment);
        if *self == Names::Contexts {
            return Ok(cluster.contexts());
        }
        let joined = cluster.join().await?;
        Ok(match self {
            Names::Of(kind) => joined.names("list objects", &find::list_path(joined, *kind)).await?,
            Names::Namespaces => joined.names("list namespaces", "/api/v1/namespaces").await?,
            Names::Containers(name) => containers(joined, name).await?,
            Names::Contexts => Vec::new(),
        })
    }
}

/// Those that run for long come first, as kubectl takes the first.
async fn containers(joined: &Joined, name: &TargetName) -> Result<Vec<String>, PlatformError> {
    let object = find::object(joined, name.kind.unwrap_or(Kind::Pod), name.parts().0).await?;
    Ok(of_spec(&object))
}

/// A pod's specification, or that of a template of pods; a service has none.
fn of_spec(object: &Value) -> Vec<String> {
    let template = &object["spec"]["template"]["spec"];
    let spec = if template.is_object() { template } else { &object["spec"] };
    let lists = [&spec["containers"], &spec["initContainers"]];
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_those_of_a_pod_or_of_what_makes_pods() {
        let spec = json!({"containers": [{"name": "app"}, {"name": "proxy"}], "initContainers": [{"name": "first"}]});
        let expected = ["app", "proxy", "first"];
        assert_eq!(of_spec(&json!({"spec": spec})), expected);
        assert_eq!(of_spec(&json!({"spec": {"replicas": 2, "template": {"spec": spec}}})), expected);
        assert!(of_spec(&json!({"spec": {"selector": {"app": "shop"}}})).is_empty());
    }
}
