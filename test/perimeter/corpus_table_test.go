package perimeter_test

import (
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// call is one request to the API server.
type call struct {
	// row is the row of the corpus or of the request table that it is of.
	row string
	// user makes the request; "a as b" is a, who impersonates b in the group
	// system:masters.
	user string
	// what is the method, the group and version, the namespace or "-", and the
	// resource with what follows it in the path. $N is the number of the run.
	what string
	// body is a POST's object, which is named corpus-$N unless it has metadata,
	// or what a PUT or PATCH merges into the object. Both are YAML between
	// braces; without it a PUT or PATCH sets an annotation.
	body string
}

// The identities of the corpus, beside those of every control plane.
const (
	bootstrapping  = "system:bootstrap:abcdef"
	cloudManager   = "system:cloud-controller-manager"
	addonManager   = "system:addon-manager"
	kubeProxy      = "system:kube-proxy"
	alice          = "alice"
	mallory        = "system:node:mallory"
	ownAccount     = "system:serviceaccount:fusegate-system:fusegate-controller"
	calico         = "system:serviceaccount:calico-system:calico-node"
	provisioner    = "system:serviceaccount:csi-driver:provisioner"
	deviceDriver   = "system:serviceaccount:dra-driver:plugin"
	deployer       = "system:serviceaccount:tenant-a:deployer"
	kubeSystemUser = "system:serviceaccount:kube-system:"
)

const (
	asAdmin     = controlplane.Admin
	asTenant    = controlplane.Tenant
	asNode      = controlplane.Node
	asScheduler = controlplane.Scheduler
	asManager   = controlplane.ControllerManager
)

const (
	podBody           = `kind: Pod, spec: {containers: [{name: c, image: registry.example.com/fusegate.Pause}]}`
	csrBody           = `kind: CertificateSigningRequest, spec: {request: $CSR, signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth]}`
	crdBody           = `kind: CustomResourceDefinition, metadata: {name: things$N.corpus.example.com}, spec: {group: corpus.example.com, scope: Namespaced, names: {plural: things$N, kind: Thing$N}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}`
	pvcBody           = `kind: PersistentVolumeClaim, spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}`
	resourceSliceBody = `kind: ResourceSlice, spec: {driver: d.example.com, nodeName: node-1, pool: {name: p$N, generation: 1, resourceSliceCount: 1}}`
	slicesBody        = `kind: EndpointSlice, addressType: IPv4, endpoints: []`
	leaseBody         = `kind: Lease, spec: {holderIdentity: x}`
	tokenBody         = `apiVersion: authentication.k8s.io/v1, kind: TokenRequest, metadata: {}, spec: {expirationSeconds: 3600}`
	bindingBody       = `kind: Binding, target: {apiVersion: v1, kind: Node, name: node-1}`
	cidrPath          = "networking.k8s.io/v1 -"
	leasePath         = "coordination.k8s.io/v1 kube-system leases/"
	rbacV1            = "rbac.authorization.k8s.io/v1"
	reviewed          = `metadata: {}, spec: {resourceAttributes: {verb: get, resource: pods, namespace: tenant-a}`
)

// kubeSystem names a service account of kube-system.
func kubeSystem(account string) string { return kubeSystemUser + account }

// corpusExempt are the critical requests C01 to C24 of the safety design that must
// never reach the webhook.
var corpusExempt = []call{
	{"C01", asManager, "PUT " + leasePath + "kube-controller-manager", ""},
	{"C01", asScheduler, "PUT " + leasePath + "kube-scheduler", ""},
	{"C01", kubeSystem("cloud-controller-manager"), "PUT " + leasePath + "cloud-controller-manager", ""},
	{"C01", cloudManager, "PUT " + leasePath + "cloud-controller-manager", ""},
	{"C01", kubeSystem("cluster-autoscaler"), "PUT " + leasePath + "cluster-autoscaler", ""},
	{"C02", asNode, "PUT coordination.k8s.io/v1 kube-node-lease leases/node-1", ""},
	{"C03", fusegate.APIServer, "PUT " + leasePath + "apiserver-corpus", ""},
	{"C04", asNode, "POST v1 - nodes", "kind: Node"},
	{"C04", asNode, "PATCH v1 - nodes/node-1/status", `status: {conditions: [{type: Ready, status: "True"}]}`},
	{"C04", asNode, "PATCH v1 - nodes/node-1", ""},
	{"C04", kubeSystem("node-controller"), "PATCH v1 - nodes/node-1", ""},
	{"C04", kubeSystem("node-controller"), "PUT v1 - nodes/node-1", ""},
	{"C05", bootstrapping, "POST certificates.k8s.io/v1 - certificatesigningrequests", "metadata: {name: boot-$N}, " + csrBody},
	{"C05", asNode, "POST certificates.k8s.io/v1 - certificatesigningrequests", csrBody},
	{"C05", kubeSystem("certificate-controller"), "PUT certificates.k8s.io/v1 - certificatesigningrequests/approve-$N/approval", `status: {conditions: [{type: Approved, status: "True", reason: Corpus, message: corpus}]}`},
	{"C05", kubeSystem("certificate-controller"), "PUT certificates.k8s.io/v1 - certificatesigningrequests/fail-$N/status", `status: {conditions: [{type: Failed, status: "True", reason: Corpus, message: corpus}]}`},
	{"C06", fusegate.APIServer, "PUT v1 kube-system configmaps/extension-apiserver-authentication", ""},
	{"C07", fusegate.APIServer, "POST " + rbacV1 + " - clusterroles", "kind: ClusterRole, rules: []"},
	{"C07", fusegate.APIServer, "PUT " + rbacV1 + " - clusterroles/system:node", ""},
	{"C07", fusegate.APIServer, "POST " + rbacV1 + " - clusterrolebindings", "kind: ClusterRoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}"},
	{"C07", fusegate.APIServer, "PUT " + rbacV1 + " - clusterrolebindings/system:node", ""},
	{"C07", fusegate.APIServer, "POST " + rbacV1 + " kube-public roles", "kind: Role, rules: []"},
	{"C07", fusegate.APIServer, "PUT " + rbacV1 + " kube-system roles/extension-apiserver-authentication-reader", ""},
	{"C07", fusegate.APIServer, "POST " + rbacV1 + " kube-system rolebindings", "kind: RoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}"},
	{"C07", fusegate.APIServer, "PUT " + rbacV1 + " kube-system rolebindings/system::leader-locking-kube-scheduler", ""},
	{"C08", fusegate.APIServer, "POST scheduling.k8s.io/v1 - priorityclasses", "kind: PriorityClass, value: 1"},
	{"C08", fusegate.APIServer, "PUT scheduling.k8s.io/v1 - priorityclasses/system-cluster-critical", ""},
	{"C08", fusegate.APIServer, "POST scheduling.k8s.io/v1 - priorityclasses", "kind: PriorityClass, metadata: {name: system-node-critical}, value: 2000001000"},
	{"C09", fusegate.APIServer, "POST flowcontrol.apiserver.k8s.io/v1 - flowschemas", "kind: FlowSchema, spec: {priorityLevelConfiguration: {name: exempt}, matchingPrecedence: 9999}"},
	{"C09", fusegate.APIServer, "PUT flowcontrol.apiserver.k8s.io/v1 - flowschemas/probes", ""},
	{"C09", fusegate.APIServer, "POST flowcontrol.apiserver.k8s.io/v1 - prioritylevelconfigurations", "kind: PriorityLevelConfiguration, spec: {type: Limited, limited: {nominalConcurrencyShares: 1, limitResponse: {type: Reject}}}"},
	{"C09", fusegate.APIServer, "PUT flowcontrol.apiserver.k8s.io/v1 - prioritylevelconfigurations/system", ""},
	{"C10", fusegate.APIServer, "POST " + cidrPath + " servicecidrs", "kind: ServiceCIDR, spec: {cidrs: [10.2$N.0.0/24]}"},
	{"C11", fusegate.APIServer, "POST " + cidrPath + " ipaddresses", `kind: IPAddress, metadata: {name: 10.2$N.0.9}, spec: {parentRef: {group: "", resource: services, namespace: default, name: gone}}`},
	{"C11", fusegate.APIServer, "DELETE " + cidrPath + " ipaddresses/10.2$N.0.9", ""},
	// An APIService that nobody serves would break discovery, hence dry.
	{"C12", fusegate.APIServer, "POST apiregistration.k8s.io/v1 - apiservices?dryRun=All", "kind: APIService, metadata: {name: v1.corpus.example.com}, spec: {group: corpus.example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1}"},
	{"C12", fusegate.APIServer, "PUT apiregistration.k8s.io/v1 - apiservices/v1.apps", ""},
	{"C13", fusegate.APIServer, "POST v1 - namespaces", "kind: Namespace, metadata: {name: kube-node-lease}"},
	{"C13", fusegate.APIServer, "POST v1 - namespaces", "kind: Namespace"},
	{"C13", fusegate.APIServer, "PUT v1 default services/kubernetes", ""},
	{"C13", fusegate.APIServer, "PUT v1 default endpoints/kubernetes", ""},
	{"C13", fusegate.APIServer, "PUT discovery.k8s.io/v1 default endpointslices/kubernetes", ""},
	{"C14", kubeSystem("endpoint-controller"), "POST v1 fusegate-system endpoints", "kind: Endpoints"},
	{"C14", kubeSystem("endpoint-controller"), "PUT v1 tenant-a endpoints/manual", ""},
	{"C14", kubeSystem("endpointslice-controller"), "POST discovery.k8s.io/v1 fusegate-system endpointslices", slicesBody},
	{"C14", kubeSystem("endpointslice-controller"), "PUT discovery.k8s.io/v1 tenant-a endpointslices/manual", ""},
	{"C15", asManager, "POST authentication.k8s.io/v1 - tokenreviews", "kind: TokenReview, metadata: {}, spec: {token: x}"},
	{"C15", asNode, "POST authentication.k8s.io/v1 - tokenreviews", "kind: TokenReview, metadata: {}, spec: {token: x}"},
	{"C15", asScheduler, "POST authorization.k8s.io/v1 - subjectaccessreviews", "kind: SubjectAccessReview, " + reviewed + ", user: x}"},
	{"C15", asNode, "POST authorization.k8s.io/v1 tenant-a localsubjectaccessreviews", "kind: LocalSubjectAccessReview, " + reviewed + ", user: x}"},
	{"C15", asTenant, "POST authorization.k8s.io/v1 - selfsubjectaccessreviews", "kind: SelfSubjectAccessReview, " + reviewed + "}"},
	{"C15", asTenant, "POST authorization.k8s.io/v1 - selfsubjectrulesreviews", "kind: SelfSubjectRulesReview, metadata: {}, spec: {namespace: tenant-a}"},
	{"C15", asTenant, "POST authentication.k8s.io/v1 - selfsubjectreviews", "kind: SelfSubjectReview, metadata: {}"},
	{"C16", kubeSystem("daemon-set-controller"), "POST v1 kube-system pods", podBody},
	{"C16", kubeSystem("replicaset-controller"), "POST v1 kube-system pods", "metadata: {generateName: dns-}, " + podBody},
	{"C16", kubeSystem("replicaset-controller"), "POST v1 fusegate-system pods", restrictedPod},
	{"C17", asScheduler, "POST v1 tenant-a pods/bind-$N/binding", "metadata: {name: bind-$N}, " + bindingBody},
	{"C17", asScheduler, "POST v1 tenant-a bindings", "metadata: {name: bindings-$N}, " + bindingBody},
	{"C17", asScheduler, "PATCH v1 tenant-a pods/spare/status", `status: {nominatedNodeName: node-1}`},
	{"C17", asNode, "PATCH v1 tenant-a pods/bound/status", `status: {message: "$N"}`},
	{"C18", kubeSystem("node-controller"), "DELETE v1 tenant-a pods/node-controller-$N", ""},
	{"C18", kubeSystem("node-controller"), "PATCH v1 tenant-a pods/bound/status", `status: {reason: NodeLost$N}`},
	{"C18", kubeSystem("pod-garbage-collector"), "DELETE v1 tenant-a pods/pod-garbage-collector-$N", ""},
	{"C18", kubeSystem("pod-garbage-collector"), "PATCH v1 tenant-a pods/bound/status", `status: {reason: Collected$N}`},
	{"C18", asAdmin, "POST v1 tenant-a pods/evict-$N/eviction", "apiVersion: policy/v1, kind: Eviction, metadata: {name: evict-$N}"},
	{"C18", fusegate.APIServer, "PUT policy/v1 tenant-a poddisruptionbudgets/lax/status", `status: {disruptionsAllowed: 1}`},
	{"C19", kubeSystem("namespace-controller"), "PUT v1 - namespaces/tenant-a/finalize", ""},
	{"C19", kubeSystem("namespace-controller"), "DELETE v1 dra-driver secrets", ""},
	{"C19", kubeSystem("generic-garbage-collector"), "DELETE v1 tenant-a pods/generic-garbage-collector-$N", ""},
	{"C19", kubeSystem("generic-garbage-collector"), "DELETE " + rbacV1 + " - clusterroles/victim-$N", ""},
	{"C20", asNode, "POST v1 tenant-a serviceaccounts/default/token", `apiVersion: authentication.k8s.io/v1, kind: TokenRequest, metadata: {}, spec: {boundObjectRef: {apiVersion: v1, kind: Pod, name: bound}}`},
	{"C20", asAdmin, "POST v1 kube-system secrets", "kind: Secret, metadata: {name: bootstrap-token-abcde$N}, type: bootstrap.kubernetes.io/token"},
	{"C20", kubeSystem("token-cleaner"), "DELETE v1 kube-system secrets/bootstrap-token-abcde$N", ""},
	{"C21", kubeSystem("service-account-controller"), "POST v1 tenant-a serviceaccounts", "kind: ServiceAccount"},
	{"C21", kubeSystem("service-account-controller"), "POST v1 tenant-a serviceaccounts", "kind: ServiceAccount, metadata: {name: default}"},
	{"C21", kubeSystem("root-ca-cert-publisher"), "POST v1 tenant-a configmaps", "kind: ConfigMap"},
	{"C21", kubeSystem("root-ca-cert-publisher"), "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: kube-root-ca.crt}"},
	{"C22", asNode, "POST v1 default events", "kind: Event, involvedObject: {namespace: default}"},
	{"C22", asNode, "PATCH v1 default events/corpus-$N", ""},
	{"C22", kubeSystem("replicaset-controller"), "POST events.k8s.io/v1 tenant-a events", `kind: Event, eventTime: "2026-01-02T03:04:05.000000Z", reportingController: x/y, reportingInstance: x, action: A, reason: R, type: Normal, regarding: {namespace: tenant-a}`},
	{"C22", calico, "PATCH events.k8s.io/v1 tenant-a events/corpus-$N", ""},
	{"C23", fusegate.APIServer, "PUT apiextensions.k8s.io/v1 - customresourcedefinitions/widgets.corpus.example.com/status", ""},
	{"C23", fusegate.APIServer, "PUT apiextensions.k8s.io/v1 - customresourcedefinitions/widgets.corpus.example.com", ""},
	{"C23", kubeSystem("daemon-set-controller"), "POST apps/v1 tenant-a controllerrevisions", "kind: ControllerRevision, revision: 1, data: {a: b}"},
	{"C23", asAdmin, "POST networking.k8s.io/v1 kube-system networkpolicies", "kind: NetworkPolicy, spec: {podSelector: {}}"},
	{"C24", kubeSystem("attachdetach-controller"), "POST storage.k8s.io/v1 - volumeattachments", "kind: VolumeAttachment, spec: {attacher: a, nodeName: node-1, source: {persistentVolumeName: pv}}"},
	{"C24", provisioner, "PATCH storage.k8s.io/v1 - volumeattachments/va", ""},
	{"C24", asNode, "PUT storage.k8s.io/v1 - csinodes/node-1", ""},
	{"C24", kubeSystem("persistent-volume-binder"), "PUT v1 - persistentvolumes/pv", ""},
	{"C24", kubeSystem("persistent-volume-binder"), "PUT v1 tenant-a persistentvolumeclaims/data", ""},
	{"C24", kubeSystem("persistent-volume-binder"), "PUT v1 tenant-a persistentvolumeclaims/data/status", ""},
	{"C24", kubeSystem("persistent-volume-binder"), "POST v1 - persistentvolumes", volumeBody},
	{"C24", asNode, "POST resource.k8s.io/v1 - resourceslices", "metadata: {name: kubelet-$N}, " + resourceSliceBody},
	{"C24", deviceDriver, "POST resource.k8s.io/v1 - resourceslices", resourceSliceBody},
	{"C24", asNode, "POST certificates.k8s.io/v1beta1 tenant-a podcertificaterequests", podCertificate},
}

// addOns are the requests of the corpus that the design leaves to the failure
// policy: add-ons outside kube-system that Fusegate does not know, and what
// controllers create on a tenant's behalf.
var addOns = []call{
	{"C16", kubeSystem("daemon-set-controller"), "POST v1 calico-system pods", podBody},
	{"C16", kubeSystem("replicaset-controller"), "POST v1 csi-driver pods", podBody},
	{"C23", calico, "POST apiextensions.k8s.io/v1 - customresourcedefinitions", crdBody},
	{"C24", provisioner, "POST v1 - persistentvolumes", "metadata: {name: provisioned-$N}, " + volumeBody},
	{"C24", kubeSystem("statefulset-controller"), "POST v1 tenant-a persistentvolumeclaims", pvcBody},
}

const volumeBody = `kind: PersistentVolume, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /nowhere}}`

// podCertificate asks for a certificate for the pod bound.
const podCertificate = `kind: PodCertificateRequest, spec: {signerName: corpus.example.com/x, podName: bound, podUID: u, serviceAccountName: default, serviceAccountUID: u, nodeName: node-1, nodeUID: u, maxExpirationSeconds: 3600, stubPKCS10Request: $DER}`

// restrictedPod is a pod that Pod Security admits to Fusegate's namespace.
const restrictedPod = `kind: Pod, spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: c, image: registry.example.com/fusegate.Pause, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}`
